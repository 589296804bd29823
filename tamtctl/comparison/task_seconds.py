"""How long the fine-tuning of a comparison takes, and what of its scores is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.tasks_without_training import is_kept
from tamtctl.tasks.finetuning.api import training_seconds
from tamtctl.tasks.finetuning.requested_run import RequestedRun
from tamtctl.tasks.finetuning.result import FinetuneWatcher


@dataclass(frozen=True)
class TaskSeconds:
    """How long a subnetwork is fine-tuned on the tasks of a comparison.

    The examples of a task are read once, and its steps timed once, with the dense model: a mask
    makes no difference to them.

    Attributes:
        config: The comparison.
        model: The dense model.
        watcher: Is told how it goes.
        force: Whether runs that are damaged, or whose inputs have changed, are made anew.
    """

    config: CompareConfig
    model: str
    watcher: FinetuneWatcher
    force: bool = False
    _dense: dict[str, RequestedRun] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)

    def of_new(self) -> float | None:
        """Return the seconds of a subnetwork that is still to be found; None without a task."""
        return sum(map(self._of, self.config.tasks)) if self.config.tasks else None

    def left(self, ticket: Path | None, model: str | None = None) -> float | None:
        """Return the seconds of the fine-tuning that is not done yet; None if no task is left.

        Args:
            ticket: The subnetwork's ticket; None: a model as it is.
            model: That model; None: the dense one.

        Raises:
            DamagedRunError: A finished run has lost files.
        """
        left = [t for t in self.config.tasks if not self._is_done(t, ticket, model or self.model)]
        return sum(map(self._of, left)) if left else None

    def _is_done(self, task: str, ticket: Path | None, model: str) -> bool:
        if self.config.is_without_training(task):
            return is_kept(self.config.evaluate_config(task, model, ticket))
        return self._asked(task).beside(self.config.finetune_config(task, model, ticket)).is_done

    def _of(self, task: str) -> float:
        if self.config.is_without_training(task):
            return 0.0  # it is not timed
        if task not in self._seconds:
            self._seconds[task] = training_seconds(self._asked(task), self.watcher)
        return self._seconds[task]

    def _asked(self, task: str) -> RequestedRun:
        if task not in self._dense:
            self._dense[task] = RequestedRun.of(self.config.finetune_config(task, self.model))
        return self._dense[task]
