"""What needs no model: the answer that the training set makes most likely, given to everything.

A score means something only beside that of the most frequent class, of the mean label, or (of
questions) of the most frequent answer; a training loss only beside the lowest that a constant
prediction could have.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tamtctl.data.padded_batches import Features
from tamtctl.foundations import printable
from tamtctl.tasks.kinds.metrics import scores
from tamtctl.tasks.labelled.records import Examples
from tamtctl.tasks.registry import Task

TRAINING, DEV = "training", "dev"
_LONGEST = 40  # characters of an answer that are shown


@dataclass(frozen=True)
class ConstantAnswer:
    """One answer to every example.

    Attributes:
        value: The name of a class, a number, or the text of an answer.
        split: Of which examples it is the most likely one, ``training`` or ``dev``.
    """

    value: str | float
    split: str = TRAINING

    @classmethod
    def of(cls, task: Task, examples: Examples, split: str = TRAINING) -> ConstantAnswer:
        """Return the most frequent class or answer, or the mean of the numbers.

        Of several that are as frequent it is the first: of classes in the task's order.
        """
        if task.kind == "regression":
            return cls(statistics.fmean(examples.labels), split)
        if task.kind == "span":
            texts = Counter(text for answers in examples.labels for text in set(answers.texts))
            return cls(min(texts, key=lambda text: (-texts[text], text)), split)
        counts = Counter(examples.labels)
        return cls(task.labels[min(counts, key=lambda label: (-counts[label], label))], split)

    def scores(self, task: Task, sets: Mapping[str, Examples]) -> dict[str, float]:
        """Return every metric of every set, by the very code that scores a model."""
        value = task.labels.index(str(self.value)) if task.labels else self.value
        return {
            name + suffix: score
            for suffix, examples in sets.items()
            for name, score in scores(task, [value] * len(examples), examples).items()
        }

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return repr(printable.line(self.value, _LONGEST))
        return f"{self.value:.4g}"


def constant_loss(task: Task, features: Features) -> float:
    """Return the lowest training loss of a model that says the same of every example.

    That is the entropy of the classes, or of the places at which an answer begins and ends (their
    mean, as they are trained on), in nats, or the variance of the numbers.

    Args:
        task: Says what the labels are.
        features: Of the training set, with the labels as they are trained on.
    """
    if task.kind == "regression":
        return float(features.labels.double().var(correction=0))
    if task.kind == "span":
        first, last = features.labels.unbind(1)  # (n,)
        return (_entropy(first) + _entropy(last)) / 2
    return _entropy(features.labels)


def _entropy(labels: Tensor) -> float:
    """Return the entropy of a column of labels, (n,), in nats."""
    _, counts = torch.unique(labels, return_counts=True)
    shares = counts.double() / counts.sum()
    return max(0.0, -float((shares * shares.log()).sum()))


def is_constant(task: Task, predictions: list[Any], examples: Examples) -> bool:
    """Tell whether predictions are one and the same, or numbers that vary next to nothing.

    Numbers do, if their standard deviation is below a hundredth of the labels'.
    """
    if task.kind != "regression":
        return len(set(predictions)) == 1
    wanted = statistics.pstdev(examples.labels)
    return bool(statistics.pstdev(predictions) < max(wanted, 1e-30) / 100)
