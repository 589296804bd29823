"""The official metrics of the tasks, by `torchmetrics`; scores are in [0, 1] or [-1, 1].

It is imported where it is used: that takes seconds, which a run should not begin with.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.tasks.labelled.records import Answers, Examples
from tamtctl.tasks.registry import Task

MIN_EXAMPLES = 30  # fewer do not tell how sure a score is: there is no standard error of them
RESAMPLES = 200  # give a standard error to within 5 %


def scores(task: Task, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
    """Return every metric of a task.

    Args:
        task: Names the metrics and, for ``macro_f1``, the classes.
        predictions: A class id, a number or an answer's text for each example.
        examples: What was to be predicted.
    """
    if task.kind == "span":
        return span_scores(predictions, examples)
    from torchmetrics.functional import classification, pearson_corrcoef, spearman_corrcoef

    dtype = torch.float64 if task.kind == "regression" else torch.int64
    predicted = torch.tensor(predictions, dtype=dtype)
    wanted = torch.tensor(examples.labels, dtype=dtype)
    classes = len(task.labels)
    functions: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
        "accuracy": lambda p, w: _accuracy(
            classification.multiclass_stat_scores(p, w, classes, average="micro")
        ),
        "f1": classification.binary_f1_score,
        "macro_f1": lambda p, w: classification.multiclass_f1_score(p, w, classes, average="macro"),
        "matthews_correlation": _correlation(classification.binary_matthews_corrcoef),
        "pearson": _correlation(pearson_corrcoef),
        "spearman": _correlation(spearman_corrcoef),
    }
    return {name: float(functions[name](predicted, wanted)) for name in task.metrics}


def standard_errors(
    task: Task, predictions: Sequence[Any], examples: Examples
) -> dict[str, float | None]:
    """Return the standard error of every metric: what another dev set of this size would change.

    Most metrics are no means over examples, so theirs is the bootstrap's (fixed resamples). Of too
    few examples there is none.
    """
    if len(examples) < MIN_EXAMPLES:
        return dict.fromkeys(task.metrics)
    found = resampled_scores(task, predictions, examples)
    return {name: float(np.std(values, ddof=1)) for name, values in found.items()}


def resampled_scores(
    task: Task, predictions: Sequence[Any], examples: Examples, resamples: int = RESAMPLES
) -> dict[str, NDArray[np.float64]]:
    """Return every metric on resamples of the examples, (resamples,), drawn with replacement.

    The resamples depend on nothing but their number and that of the examples: any two checkpoints
    are scored on the same ones.
    """
    generator = np.random.Generator(np.random.Philox(key=0))
    count = len(examples)
    drawn = [generator.integers(count, size=count) for _ in range(resamples)]
    if task.kind == "span":  # means over examples, and too slow to compute for every resample
        each = [span_scores([p], examples.take([i])) for i, p in enumerate(predictions)]
        table = {name: np.array([one[name] for one in each]) for name in each[0]}
        return {name: np.array([v[rows].mean() for rows in drawn]) for name, v in table.items()}
    found = [
        scores(task, [predictions[i] for i in rows], examples.take(rows))
        for rows in (rows.tolist() for rows in drawn)
    ]
    return {name: np.array([one[name] for one in found]) for name in task.metrics}


def span_scores(predictions: Sequence[str], examples: Examples) -> dict[str, float]:
    """Return ``f1`` and ``exact_match`` of SQuAD v1.1: the best over the accepted answers.

    Question and answer belong together by their place: the ids of a file may repeat.
    """
    from torchmetrics.functional.text import squad

    found: list[dict[str, Any]] = [
        {"id": str(place), "prediction_text": text} for place, text in enumerate(predictions)
    ]
    answers: list[Answers] = examples.labels
    wanted: list[dict[str, Any]] = [
        {"id": str(place), "answers": {"text": list(a.texts), "answer_start": list(a.starts)}}
        for place, a in enumerate(answers)
    ]
    percent = squad(found, wanted)
    return {name: float(percent[name]) / 100 for name in ("f1", "exact_match")}


def _accuracy(counts: Tensor) -> Tensor:
    """Divide in float64: torchmetrics does so in float32, and its 19 of 40 are no 0.475."""
    right, examples = counts[0], counts[-1]
    return right.double() / examples


def _correlation(
    function: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor], Tensor]:
    """Let the correlation with a constant be 0: it is undefined, and torchmetrics makes one up.

    A model that always says the same is the usual failure, and scikit-learn's answer to it is 0.
    Of labels, only a resample's can all be the same.
    """

    def correlation(predicted: Tensor, wanted: Tensor) -> Tensor:
        is_constant = (predicted == predicted[0]).all() or (wanted == wanted[0]).all()
        with warnings.catch_warnings():  # of predictions that hardly vary, which a run says itself
            warnings.simplefilter("ignore", UserWarning)
            return torch.zeros(()) if is_constant else function(predicted, wanted)

    return correlation
