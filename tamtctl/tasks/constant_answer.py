"""The constant answer: one answer to every example, the one that is most often right.

It needs no model, so a model's metric is judged beside its metric, and a training loss beside the
lowest loss of a constant prediction. The kind of the task decides what it is: the most frequent
class, the mean label, or the most frequent answer to questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tamtctl.foundations import printable
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.metrics import metrics
from tamtctl.tasks.task import Task

TRAINING, DEV = "training", "dev"
_LONGEST = 40  # characters of an answer that are shown


@dataclass(frozen=True)
class ConstantAnswer:
    """One answer to every example.

    Attributes:
        value: The name of a class, a number, or the text of an answer.
        split: The examples that it was chosen on, ``training`` or ``dev``.
    """

    value: str | float
    split: str = TRAINING

    @classmethod
    def of(cls, task: Task, examples: Examples, split: str = TRAINING) -> ConstantAnswer:
        """Return the answer that is most often right."""
        return cls(kind_of(task).constant(examples), split)

    def metrics(self, task: Task, sets: Mapping[str, Examples]) -> dict[str, float]:
        """Return every metric of every set, by the code that measures models, too."""
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
