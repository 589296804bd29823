"""What the constant answer of each task scores, and which fine-tuning runs learnt nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tamtctl.comparison.found import Found
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import DENSE
from tamtctl.comparison.task_metrics import metric_notes_of


@dataclass(frozen=True)
class Notes(Found):
    """Sentences that a reader needs to judge the metrics of tasks."""

    said: Sequence[str]

    def sentences(self) -> Sequence[str]:
        """Return the sentences."""
        return self.said


def find(comparison: Comparison, opened: Opened) -> Notes | None:
    """Return the metric of each task's constant answer, and which runs learnt nothing."""
    said = list(_sentences(comparison))
    return Notes(said) if said else None


def _sentences(comparison: Comparison) -> Iterator[str]:
    for task in comparison.config.tasks:
        found = {
            one.name if one.method == DENSE else f"{one.name} at {one.level}": one.metrics.get(task)
            for one in comparison.subnetworks
        }
        yield from metric_notes_of(task, {name: one for name, one in found.items() if one})
        for name in (name for name, one in found.items() if one is None):
            yield f"{task}, {name}: the training diverged, so that there is no score"
