"""One seed of fine-tuning: it trains a model and can go on after an interruption."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.data.batches import made_ahead
from tamtctl.data.padded_batches import Features, TaskBatch
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.signals import SAVING_SOON, promising
from tamtctl.foundations.watching import StepReport
from tamtctl.tasks.finetuning.sparse_adam import SparseTraining
from tamtctl.tasks.kinds.base import TaskKind
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.table import primary_metric
from tamtctl.tasks.task import Task
from tamtctl.training.checkpoints import Checkpoints, State
from tamtctl.training.loop import TrainingRun, dropout_seed, train
from tamtctl.training.run_folder import truncate_metrics
from tamtctl.training.run_log import Logging, RunLog
from tamtctl.training.supervisor import Supervisor


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What every seed of a run is trained on, and how.

    Attributes:
        task: The task, with the learning rate, batch size and epochs to use.
        features: The training set.
        steps: Optimiser steps.
        warm_up_steps: How many of the first steps raise the rate to its peak.
        compute: Device and precision.
        select_best: Whether the best epoch is reported instead of the last.
        patience: Epochs without a better metric after which training stops; None: never.
        checkpoint_every: Steps between two checkpoints; None: one every five minutes.
    """

    task: Task
    features: Features
    steps: int
    warm_up_steps: int
    compute: Compute
    select_best: bool
    checkpoint_every: int | None
    patience: int | None = None

    def ends_epoch(self, step: int) -> bool:
        """Return whether an epoch ends with a step (from 1)."""
        return step % (self.steps // self.task.epochs) == 0


class SeedRun:
    """One seed: a model that is trained, with its pruned weights at zero.

    Attributes:
        model: The model.
        checkpoints: The checkpoints that it saves and goes on from.
        epoch_metrics: If the best epoch is reported, metric → value after each epoch; only the
            first process has them.
        seconds: Seconds of training, without scoring.
        steps_done: The steps that were taken, once training has ended.
        smooth_loss: Moving average of the training loss over about a tenth of the steps.
    """

    def __init__(
        self,
        schedule: Schedule,
        model: PreTrainedModel,
        pruned: Mapping[str, Tensor],
        seed: int,
        checkpoints: Checkpoints,
        measure: Callable[[PreTrainedModel], dict[str, float]],
    ) -> None:
        """Prepare to train.

        Args:
            schedule: What to train on, and how.
            model: The model on its device, with its pruned weights at zero.
            pruned: Name → boolean mask of a matrix; True prunes.
            seed: Seed of the head, the order of examples and dropout.
            checkpoints: The checkpoints to save and to go on from.
            measure: Returns every metric of a model on the set that chooses the best epoch.
        """
        self.model = model
        self.epoch_metrics: list[dict[str, float]] = []
        self.seconds = 0.0
        self.steps_done = 0
        self.smooth_loss: Tensor | None = None
        self._schedule, self._seed, self._measure = schedule, seed, measure
        self._masked = SparseTraining(
            model, pruned, schedule.task.learning_rate, schedule.steps, schedule.warm_up_steps
        )
        trained = [p for p in model.parameters() if p.requires_grad]
        loss = partial(_loss_of_share, schedule.compute, kind_of(schedule.task), model)
        self._loss = world().parallel(loss, trained, some_unused=True)
        self._best: dict[str, Tensor] = {}
        self._step_loss = torch.zeros(())
        self._scoring_seconds = 0.0
        self.checkpoints = checkpoints
        # No cycle: it would keep the model in memory while the next seed's is trained.
        self._supervisor = Supervisor(weakref.proxy(self), checkpoints, schedule.checkpoint_every)
        torch.manual_seed(seed * world().size + world().rank)  # dropout differs by process

    @property
    def best_epoch(self) -> int | None:
        """The best epoch (from 1), the first of equally good ones; None if none was measured."""
        task = self._schedule.task
        ranks = [
            primary_metric(task).rank(metrics[task.primary_metric])
            for metrics in self.epoch_metrics
        ]
        return ranks.index(max(ranks)) + 1 if ranks else None

    @property
    def has_waited(self) -> bool:
        """Whether the last epochs without a better metric are as many as patience allows."""
        patience, best = self._schedule.patience, self.best_epoch
        return (
            patience is not None
            and best is not None
            and (len(self.epoch_metrics) - best >= patience)
        )

    def resume(self, note: Callable[[str], None]) -> None:
        """Go on from the last checkpoint, if there is one.

        A single process ends with the same result as an uninterrupted run. Several processes go on
        with other random numbers for dropout.
        """
        self._supervisor.resume(note)

    def train(
        self,
        folder: Path,
        progress: Callable[[StepReport], None],
        note: Callable[[str], None],
        logging: Logging,
    ) -> None:
        """Train to the last step, or until patience ends; measure each epoch if the best is chosen.

        Args:
            folder: The folder of the log, which the first process writes.
            progress: Is given every report.
            note: Is given lines for the user.
            logging: The other loggers.
        """
        after_step = self._supervisor.step
        if not world().is_first:
            done = self._supervisor.run(None, progress, note)
        else:
            truncate_metrics(folder, after_step)
            with RunLog(folder, after_step, logging, note) as log:
                done = self._supervisor.run(log, progress, note)
        self.seconds, self.steps_done = done.seconds - self._scoring_seconds, done.steps

    def run(
        self,
        report: Callable[[StepReport], bool | None],
        *,
        is_due: Callable[[int], bool],
        after: StepReport | None,
    ) -> TrainingRun:
        """Train to the end; see `tamtctl.training.supervisor.Supervised`."""
        schedule = self._schedule
        batches = schedule.features.training_batches(
            schedule.task.batch_size,
            self._seed,
            start_step=after.step if after else 0,
            rank=world().rank,
            world_size=world().size,
        )
        self.model.train()
        return train(
            steps=schedule.steps,
            batches=made_ahead(batches, schedule.compute.device),
            backward=self._backward,
            update=self._update,
            flips=lambda: 0.0,
            report=report,
            is_due=is_due,
            after=after,
        )

    def is_due(self, step: int) -> bool:
        """Return whether patience may end the training after a step (from 1)."""
        return self._schedule.patience is not None and self._schedule.ends_epoch(step)

    def judged(self, report: StepReport) -> StepReport:
        """Return the report, marked as the last if patience ends; all processes agree on that."""
        is_over = self.is_due(report.step) and world().on_first(lambda: self.has_waited)
        return replace(report, is_last=report.is_last or is_over)

    def state_dict(self) -> State:
        """Return the tensors that the next step depends on."""
        assert self.smooth_loss is not None
        return {
            "model": dict(self.model.named_parameters()),
            "optimizer": self._masked.state_dict(),
            "best": self._best,
            "loss": {"smooth": self.smooth_loss},
            "random": self._schedule.compute.random_state(),
        }

    def facts(self) -> dict[str, Any]:
        """Return the metrics of the finished epochs, and the seconds that measuring them took."""
        return {"epoch_scores": self.epoch_metrics, "scoring_seconds": self._scoring_seconds}

    def take_up(self, state: State, facts: Mapping[str, Any], report: StepReport) -> None:
        """Restore what was saved after a report."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(state["model"][name])
        self._masked.load_state_dict(state["optimizer"])
        self._best = dict(state.get("best", {}))
        self.smooth_loss = state["loss"]["smooth"].to(self._schedule.compute.device)
        self.epoch_metrics = facts["epoch_scores"]
        self._scoring_seconds = facts["scoring_seconds"]
        if world().size == 1:
            self._schedule.compute.set_random_state(state["random"])
        else:
            torch.manual_seed(dropout_seed(self._seed, report.step, world().rank))

    def select(self) -> None:
        """Give the model the weights of the epoch to report."""
        if self._best:
            self.model.load_state_dict(self._best)

    def _update(self, step: int) -> float:
        learning_rate = self._masked.step(step)
        self._smooth(step)
        if self._schedule.select_best and self._schedule.ends_epoch(step + 1) and world().is_first:
            self._keep_if_best()
        return learning_rate

    def _backward(self, batch: TaskBatch) -> dict[str, Tensor]:
        device = self._schedule.compute.device
        part = self._loss(batch.to(device))
        part.backward()
        totals = world().totals({f"seed {self._seed} training": part.detach()}, device)
        (self._step_loss,) = totals.values()
        return totals

    def _smooth(self, step: int) -> None:
        """Add the loss of a step (from 0) to the moving average, without waiting for the device.

        The first steps have equal weights, so that the average does not lag behind.
        """
        share = max(1 / (step + 1), 1 / max(10, self._schedule.steps / 10))
        before = self._step_loss if self.smooth_loss is None else self.smooth_loss
        self.smooth_loss = before + share * (self._step_loss - before)

    def _keep_if_best(self) -> None:
        started = time.perf_counter()
        with promising(SAVING_SOON):
            self.epoch_metrics.append(self._measure(self.model))
        self.model.train()
        if self.best_epoch == len(self.epoch_metrics):
            self._best = {n: t.cpu().clone() for n, t in self.model.state_dict().items()}
        self._scoring_seconds += time.perf_counter() - started


def _loss_of_share(
    compute: Compute, kind: TaskKind, model: PreTrainedModel, batch: TaskBatch
) -> Tensor:
    """Return the contribution of a batch to the mean loss of its step."""
    with compute.autocast():
        return kind.loss(model, batch) * batch.share
