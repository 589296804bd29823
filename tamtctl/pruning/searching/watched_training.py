"""The training of a search with evaluations on the way, early stopping, and a check for divergence.

The mask is evaluated on held-out text after the steps of ``eval_every`` and ``eval_steps``. The
training stops when ``patience`` evaluations bring no lower loss, and fails when its loss explodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.signals import SAVING_SOON, promising
from tamtctl.foundations.watching import StepReport
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.trained.iterative_pruning import IterativePruning
from tamtctl.pruning.trained.mask_training import MaskTraining
from tamtctl.training.checkpoints import State
from tamtctl.training.loop import TrainingRun
from tamtctl.training.loss_guard import LossGuard


class WatchedTraining:
    """A training of a search; implements `tamtctl.training.supervisor.Supervised`."""

    def __init__(
        self,
        config: SearchConfig,
        training: MaskTraining | IterativePruning,
        evaluate: Callable[[], dict[str, float]],
    ) -> None:
        """Watch a training.

        Args:
            config: The whole search; it says when to evaluate, and the patience.
            training: The training to watch.
            evaluate: Returns term → held-out loss of the current mask.
        """
        self._config, self._training, self._evaluate = config, training, evaluate
        self._guard = LossGuard()
        self._best_loss: float | None = None
        self._since_best = 0  # evaluations
        self._step = 0

    @property
    def stopped_early(self) -> bool:
        """Whether patience has ended the training."""
        patience = self._config.patience
        return patience is not None and self._since_best >= patience

    def run(
        self,
        report: Callable[[StepReport], bool | None],
        *,
        is_due: Callable[[int], bool],
        after: StepReport | None,
    ) -> TrainingRun:
        """Train to the end."""
        return self._training.run(report, is_due=is_due, after=after)

    def is_due(self, step: int) -> bool:
        """Return whether to evaluate after a step (from 1)."""
        every = self._config.eval_every
        return step in self._config.eval_steps or (every is not None and step % every == 0)

    def judged(self, report: StepReport) -> StepReport:
        """Return the report, with held-out losses if an evaluation is due."""
        self._step = report.step
        if not self.is_due(report.step):
            return report
        with promising(SAVING_SOON):
            losses = world().on_first(self._evaluate)
        loss = sum(losses.values())
        if self._best_loss is None or loss < self._best_loss:
            self._best_loss, self._since_best = loss, 0
        elif not report.is_last:  # the last step ends the training anyway
            self._since_best += 1
        return replace(report, eval_losses=losses, is_last=report.is_last or self.stopped_early)

    def check_loss(self, report: StepReport) -> None:
        """Raise DivergedError if the training loss has exploded."""
        self._guard.check(report)

    def state_dict(self) -> State:
        """Return the state of the training.

        Raises:
            DivergedError: The state has infinite values or NaNs.
        """
        state = self._training.state_dict()
        tensors = (tensor for part in state.values() for tensor in part.values())
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise DivergedError(
                f"the scores are no longer numbers after step {self._step}; "
                "try a lower --learning-rate, or --precision fp32"
            )
        return state

    def facts(self) -> dict[str, Any]:
        """Return the losses that later ones are compared with, and the count of patience."""
        return {
            "first_loss": self._guard.first,
            "best_loss": self._best_loss,
            "since_best": self._since_best,
        }

    def take_up(self, state: State, facts: Mapping[str, Any], report: StepReport) -> None:
        """Go on from a state that was saved after a report."""
        self._training.load_state_dict(state)
        self._guard.first, self._best_loss = facts["first_loss"], facts["best_loss"]
        self._since_best = facts["since_best"]
