"""Metrics of predictions, and how sure they are: the same for every kind of task.

`torchmetrics` is imported where it is used: that takes seconds, which a run should not begin with.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import kind_of
from tamtctl.tasks.task import Task

MIN_EXAMPLES = 30  # fewer do not tell how sure a metric is: it has no standard error
RESAMPLES = 200  # give a standard error to within 5 %


def metrics(task: Task, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
    """Return every metric of a task.

    Args:
        task: Names the metrics; its kind computes them.
        predictions: One for each example.
        examples: What was to be predicted.

    Raises:
        UsageError: The kind does not compute a metric that its row promises.
    """
    found = kind_of(task).metrics(predictions, examples)
    if missing := [name for name in task.metrics if name not in found]:
        raise UsageError(f"the code of the kind of task {task.kind!r} computes no {missing[0]}")
    return {name: found[name] for name in task.metrics}


def standard_errors(
    task: Task, predictions: Sequence[Any], examples: Examples
) -> dict[str, float | None]:
    """Return the standard error of every metric: what another dev set of this size would change.

    It is the bootstrap's, over fixed resamples, for most metrics are no means over examples. It is
    None where there are too few examples to tell.
    """
    if kind_of(task).units(examples) < MIN_EXAMPLES:
        return dict.fromkeys(task.metrics)
    found = resampled_metrics(task, predictions, examples)
    return {name: float(np.std(values, ddof=1)) for name, values in found.items()}


def resampled_metrics(
    task: Task, predictions: Sequence[Any], examples: Examples, resamples: int = RESAMPLES
) -> dict[str, NDArray[np.float64]]:
    """Return every metric on resamples of the examples, (resamples,), drawn with replacement.

    Where examples hang together, what is drawn is the kind's units of them.

    The resamples depend on nothing but their number and that of the examples: any two checkpoints
    are measured on the same ones.
    """
    generator = np.random.Generator(np.random.Philox(key=0))
    kind = kind_of(task)
    count = kind.units(examples)
    draws = [generator.integers(count, size=count) for _ in range(resamples)]
    return kind.resampled_metrics(predictions, examples, draws)


def correlation(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Let the correlation with a constant be 0: it is undefined, and torchmetrics makes one up.

    A model that always says the same is the usual failure, for which scikit-learn gives 0. Labels
    that are all the same occur in resamples only.
    """

    def found(predicted: Tensor, wanted: Tensor) -> Tensor:
        is_constant = (predicted == predicted[0]).all() or (wanted == wanted[0]).all()
        with warnings.catch_warnings():  # of predictions that hardly vary, which a run says itself
            warnings.simplefilter("ignore", UserWarning)
            return torch.zeros(()) if is_constant else function(predicted, wanted)

    return found


def label_entropy(labels: Tensor) -> float:
    """Return the entropy of a column of labels, (n,), in nats."""
    _, counts = torch.unique(labels, return_counts=True)
    shares = counts.double() / counts.sum()
    return max(0.0, -float((shares * shares.log()).sum()))
