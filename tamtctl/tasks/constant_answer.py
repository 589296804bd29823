"""What needs no model: the answer that the training set makes most likely, given to everything.

A metric means something only beside that of the most frequent class, of the mean label, or (of
questions) of the most frequent answer; a training loss only beside the lowest that a constant
prediction could have. What the constant answer is, the kind of the task says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tamtctl.foundations import printable
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import kind_of
from tamtctl.tasks.kinds.metrics import metrics
from tamtctl.tasks.task import Task

TRAINING, DEV = "training", "dev"
_LONGEST = 40  # characters of an answer that are shown


@dataclass(frozen=True)
class ConstantAnswer:
    """One answer to every example.

    Attributes:
        value: The name of a class, a number, or the text of an answer.
        split: The examples among which it is the most likely, ``training`` or ``dev``.
    """

    value: str | float
    split: str = TRAINING

    @classmethod
    def of(cls, task: Task, examples: Examples, split: str = TRAINING) -> ConstantAnswer:
        """Return the answer that is most often right."""
        return cls(kind_of(task).constant(examples), split)

    def metrics(self, task: Task, sets: Mapping[str, Examples]) -> dict[str, float]:
        """Return every metric of every set, by the very code that measures a model."""
        kind = kind_of(task)
        return {
            name + suffix: found
            for suffix, examples in sets.items()
            for name, found in metrics(
                task, kind.constant_predictions(self.value, examples), examples
            ).items()
        }

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return repr(printable.line(self.value, _LONGEST))
        return f"{self.value:.4g}"
