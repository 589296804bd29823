"""How long the fine-tuning of a comparison takes, from a few steps of each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.untrained_tasks import is_kept
from tamtctl.tasks.finetuning.api import training_seconds, was_finetuned
from tamtctl.tasks.finetuning.result import FinetuneWatcher


@dataclass(frozen=True)
class TaskSeconds:
    """How long a subnetwork is fine-tuned.

    Attributes:
        config: The comparison.
        model: The dense model.
        by_task: Task that takes fine-tuning → seconds, measured with the dense model; a mask makes
            no difference to them.
    """

    config: CompareConfig
    model: str
    by_task: Mapping[str, float]

    @classmethod
    def of(cls, config: CompareConfig, model: str, watcher: FinetuneWatcher) -> TaskSeconds:
        """Time a few steps of each task.

        Raises:
            TamtctlError: The task, the model or the data is refused.
        """
        trained = [task for task in config.tasks if not config.is_untrained(task)]
        configs = {task: config.finetune_config(task, model) for task in trained}
        return cls(
            config, model, {task: training_seconds(one, watcher) for task, one in configs.items()}
        )

    @property
    def total(self) -> float:
        """The seconds of a subnetwork that is still to be found."""
        return sum(self.by_task.values())

    def left(self, ticket: Path | None) -> float | None:
        """Return the seconds of the fine-tuning that is not done yet; None if no task is left.

        Args:
            ticket: The subnetwork's ticket; None: the dense model.
        """
        left = [task for task in self.config.tasks if not self._is_done(task, ticket)]
        return sum(self.by_task.get(task, 0.0) for task in left) if left else None

    def _is_done(self, task: str, ticket: Path | None) -> bool:
        if self.config.is_untrained(task):
            return is_kept(self.config.evaluate_config(task, self.model, ticket))
        return was_finetuned(self.config.finetune_config(task, self.model, ticket))
