"""Ordinary training of a model's weights without any mask: the most that a text can teach.

A mask that is trained on a text learns that text, too, until its loss there is below that of the
dense model. It should then be compared with the dense model after as many steps on the same
batches, not with the pre-trained one. As everywhere else, the pre-trained head stays frozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from tamtctl.data.sequences import Sequences
from tamtctl.foundations.devices import Compute
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.trained.objective_steps import ObjectiveSteps, copies, copy_into, optimizer_of
from tamtctl.training.schedules import linear_decay


class WeightTraining:
    """A dense model that can be trained several times, from its pre-trained weights each time."""

    def __init__(
        self, config: SearchConfig, compute: Compute, encoder: Encoder, text: Sequences
    ) -> None:
        """Prepare an encoder that is on its device and has its pre-trained weights.

        Args:
            config: The search whose batches are trained on.
            compute: Device and precision.
            encoder: Loaded with its head if the objective needs one.
            text: The training text of the search.
        """
        self._config, self._compute, self._encoder, self._text = config, compute, encoder, text
        self._parameters = dict(encoder.base.named_parameters())
        self._pretrained = copies(self._parameters)

    def objective(self, name: str) -> Objective:
        """Return an objective of the current weights, whose teacher is the pre-trained model."""
        return Objective(self._encoder, name, self._matrices, self._pretrained)

    @contextmanager
    def trained(self, steps: int, rate: float, text: Sequences | None = None) -> Iterator[None]:
        """Train for some steps; in this context the encoder has the trained weights.

        Args:
            steps: Optimiser steps.
            rate: Learning rate of the first step; it falls linearly to 0.
            text: Another text to train on; None: that of the search.

        Raises:
            DivergedError: The loss is infinite or NaN.
        """
        config = self._config.filled_in(steps=steps)
        text = self._text if text is None else text
        its = ObjectiveSteps(config, self._compute, self._encoder, text, self._matrices)
        head = {id(parameter) for parameter in its.objective.head.values()}
        weights = [p for p in self._parameters.values() if id(p) not in head]
        for parameter in self._encoder.model.parameters():
            parameter.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = optimizer_of(config, weights)

        def update(step: int) -> float:
            now = linear_decay(rate, step, steps)
            optimizer.step(now)
            for weight in weights:
                weight.grad = None
            return now

        try:
            its.run(
                update=update,
                flips=lambda: 0.0,
                report=lambda _: None,
                is_due=lambda _: False,
                after=None,
            )
            yield
        finally:
            copy_into(self._parameters, self._pretrained)

    @property
    def _matrices(self) -> Mapping[str, Tensor]:
        return {name: self._pretrained[name] for name in self._encoder.matrices}
