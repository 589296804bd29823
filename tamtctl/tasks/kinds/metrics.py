"""Metrics of predictions with their standard errors, for every kind of task.

Importing `torchmetrics` takes seconds, so the functions that use it do it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.task import Task

MIN_EXAMPLES = 30  # with fewer, a metric has no standard error
RESAMPLES = 200  # give a standard error to within 5 %
INTERVAL_RESAMPLES = 1000  # for the ends of an interval


def metrics(task: Task, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
    """Return metric → its value, for every metric of a task.

    Args:
        task: Names the metrics; its kind computes them.
        predictions: One for each example.
        examples: The examples with their labels.

    Raises:
        UsageError: The kind does not compute a metric that its row lists, or one that is no finite
            number.
    """
    code, values = f"the code of the kind of task {task.kind!r}", {}
    found = kind_of(task).metrics(predictions, examples)
    for name in task.metrics:
        if name not in found:
            raise UsageError(f"{code} computes no {name}")
        try:
            values[name] = float(found[name])
        except (TypeError, ValueError):
            values[name] = math.nan
        if not math.isfinite(values[name]):
            raise UsageError(f"{code} gives {found[name]!r} for {name}; it must be a finite number")
    return values


def standard_errors(
    task: Task, predictions: Sequence[Any], examples: Examples
) -> dict[str, float | None]:
    """Return metric → its standard error over dev sets of this size.

    It is a bootstrap over fixed resamples, as most metrics are no means over examples. It is None
    with fewer than `MIN_EXAMPLES` units.
    """
    if kind_of(task).units(examples) < MIN_EXAMPLES:
        return dict.fromkeys(task.metrics)
    found = resampled_metrics(task, predictions, examples)
    return {name: float(np.std(values, ddof=1)) for name, values in found.items()}


def resampled_metrics(
    task: Task, predictions: Sequence[Any], examples: Examples, resamples: int = RESAMPLES
) -> dict[str, NDArray[np.float64]]:
    """Return metric → its value on each resample of the examples, shape (resamples,).

    The units of the kind (examples, or groups of them) are drawn with replacement. The draws depend
    only on the numbers of resamples and units, so that all checkpoints are measured on the same.
    """
    generator = np.random.Generator(np.random.Philox(key=0))
    kind = kind_of(task)
    count = kind.units(examples)
    draws = [generator.integers(count, size=count) for _ in range(resamples)]
    return kind.resampled_metrics(predictions, examples, draws)


def correlation(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function with 0 as the correlation with a constant, which is undefined.

    The usual case is a failed model that always predicts the same; scikit-learn has 0 for it, too,
    and torchmetrics an arbitrary number. Labels that are all equal occur in resamples only.
    """

    def found(predicted: Tensor, wanted: Tensor) -> Tensor:  # (n,) each → (), or (n, k) → (k,)
        is_constant = (predicted == predicted[0]).all(0) | (wanted == wanted[0]).all(0)
        with warnings.catch_warnings():  # torchmetrics warns if predictions hardly vary; so do runs
            warnings.simplefilter("ignore", UserWarning)
            values = function(predicted, wanted).reshape(is_constant.shape)
        return torch.where(is_constant, 0.0, values)

    return found


def label_entropy(labels: Tensor) -> float:
    """Return the entropy of labels, shape (n,), in nats."""
    _, counts = torch.unique(labels, return_counts=True)
    shares = counts.double() / counts.sum()
    return max(0.0, -float((shares * shares.log()).sum()))
