"""Training the weights that a mask keeps; pruned weights stay exactly zero.

    W ← Adam(W, m ⊙ dL/dW), starting from W ⊙ m

All parameters that the objective reaches are trained: kept weights, biases, norms and position
embeddings. The masked-LM head and its decoder stay frozen, so that the losses of ticket, recovered
and dense model are taken with the same head. The teacher is the whole dense model. Where whole
neurons are pruned, they are cut out of the model while it trains: a step is faster, and without
dropout nothing changes but the order of sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.data.sequences import Sequences
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.watching import StepReport
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.trained.folded_weights import fold
from tamtctl.pruning.trained.objective_steps import (
    ObjectiveSteps,
    copies,
    copy_into,
    optimizer_of,
)
from tamtctl.ticket.slicing import CutOut
from tamtctl.training.checkpoints import State
from tamtctl.training.loop import TrainingRun
from tamtctl.training.loss_guard import LossGuard
from tamtctl.training.masked_gradients import MaskedGradients
from tamtctl.training.schedules import warmed_up
from tamtctl.training.step_timing import seconds_per_step

_WARM_UP = 0.05  # of all steps
_TIMED_STEPS = 6  # the first one warms up, and does not count
_TIMED_SHARE = 0.05  # most of the budget of minutes that is spent on timing


class SurvivorTraining:
    """The training of a recovery; implements `tamtctl.training.supervisor.Supervised`.

    Attributes:
        steps: Computes the gradients of the objective.
        dense: Name → pre-trained weight of every parameter of the encoder; never written.
        trained: Name → parameter that the objective reaches.
        count: Steps of the whole training; settled before it begins.
    """

    def __init__(
        self,
        config: SearchConfig,
        compute: Compute,
        encoder: Encoder,
        text: Sequences,
        masks: Mapping[str, Tensor],
        *,
        are_neurons: bool = False,
    ) -> None:
        """Prune an encoder that is on its device.

        Args:
            config: Objective, batches and rate.
            compute: Device and precision.
            encoder: Loaded with its head if the objective needs one.
            text: The training text.
            masks: Name → boolean mask, for at least every matrix in ``encoder.matrices``; True
                keeps.
            are_neurons: The masks prune whole neurons, and nothing else.
        """
        self.dense = copies(dict(encoder.base.named_parameters()))
        self.masks = {n: masks[n].to(compute.device) for n in encoder.matrices}
        frozen = {name: self.dense[name] for name in encoder.matrices}
        self.steps = ObjectiveSteps(config, compute, encoder, text, frozen, self.dense)
        self.count = config.steps
        self._config, self._compute, self._base = config, compute, encoder.base
        self._masked = {} if are_neurons else self.masks  # neurons are cut out
        self._gradients = MaskedGradients(encoder.matrices, self._masked)
        self._guard = LossGuard()
        fold(encoder.matrices, frozen, self.masks)
        self._cut = CutOut(encoder.base, self.masks) if are_neurons else None
        own = dict(encoder.base.named_parameters())
        for parameter in self.steps.objective.head.values():
            parameter.requires_grad_(False)
        for parameter in own.values():
            parameter.requires_grad_(True)
        self.steps.backward(next(self.steps.batches()), nullcontext)
        self.trained = {name: p for name, p in own.items() if p.grad is not None}
        self._clear_gradients()
        for name in own.keys() - self.trained.keys():
            own[name].requires_grad_(False)
        self._optimizer = optimizer_of(config, list(self.trained.values()))

    @property
    def trained_weights(self) -> int:
        """Number of weights that are trained; pruned ones are not."""
        return sum(
            int(self.masks[name].sum()) if name in self._masked else parameter.numel()
            for name, parameter in self.trained.items()
        )

    def run(
        self,
        report: Callable[[StepReport], bool | None],
        *,
        is_due: Callable[[int], bool],
        after: StepReport | None,
    ) -> TrainingRun:
        """Train to the end."""
        return self.steps.run(
            update=self._update,
            flips=lambda: 0.0,
            report=report,
            is_due=is_due,
            after=after,
            steps=self.count,
        )

    def seconds_per_step(self, budget: float = math.inf) -> float:
        """Return the mean seconds of a few whole steps at rate 0, which change no weight.

        Args:
            budget: Seconds of the whole training; timing takes only a small share of them.
        """
        optimizer = optimizer_of(self._config, list(self.trained.values()))

        def step(batch: Batch) -> None:
            self.steps.backward(batch, nullcontext)
            self._gradients.apply()
            optimizer.step(0.0)
            self._clear_gradients()
            self._compute.synchronize()

        batches, at_most = self.steps.batches(), budget * _TIMED_SHARE
        return seconds_per_step(batches, step, _TIMED_STEPS, at_most=at_most)

    def is_due(self, step: int) -> bool:
        """Return False: the training has no evaluations of its own."""
        return False

    def judged(self, report: StepReport) -> StepReport:
        """Return the report as it is."""
        return report

    def check_loss(self, report: StepReport) -> None:
        """Raise DivergedError if the training loss has exploded."""
        self._guard.check(report)

    def state_dict(self) -> State:
        """Return the tensors that the next step depends on."""
        return {"weights": dict(self.trained), "optimizer": self._optimizer.state_dict()}

    def facts(self) -> dict[str, Any]:
        """Return the first loss, which later ones are compared with."""
        return {"first_loss": self._guard.first}

    def take_up(self, state: State, facts: Mapping[str, Any], report: StepReport) -> None:
        """Go on from a saved state; the number of steps is the one settled then."""
        copy_into(self.trained, state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._guard.first, self.count = facts["first_loss"], report.steps

    def put_dense(self) -> dict[str, Tensor]:
        """Put the pre-trained weights back into the encoder; return the trained ones on the CPU."""
        found = {name: p.detach().to("cpu", copy=True) for name, p in self.trained.items()}
        if self._cut is not None:
            self._cut.put_back()
            found = self._cut.in_whole(found)
        copy_into(dict(self._base.named_parameters()), self.dense)
        return found

    def _update(self, step: int) -> float:
        """Apply the gradients of a step (from 0) to the kept weights; return the learning rate."""
        self._gradients.apply()
        warm_up = round(self.count * _WARM_UP)
        learning_rate = warmed_up(self._config.learning_rate, step, self.count, warm_up)
        self._optimizer.step(learning_rate)
        self._clear_gradients()
        return learning_rate

    def _clear_gradients(self) -> None:
        for parameter in self.trained.values():
            parameter.grad = None


def lost_zeros(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> int:
    """Return how many pruned weights are not zero."""
    return sum(
        int(torch.count_nonzero(weights[name][~masks[name].cpu()]))
        for name in masks
        if name in weights
    )
