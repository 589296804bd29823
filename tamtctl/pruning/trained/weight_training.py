"""Ordinary training of a model's weights, without any mask: the ceiling of what a text can teach.

A mask that is trained on a text learns that text, too, until its loss there is below that of the
dense model. What can then be compared with it is not the dense model as it was pre-trained, but the
dense model after as many steps on the same batches. As everywhere else, the pre-trained head stays.
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
from tamtctl.training.loop import linear_decay


class WeightTraining:
    """A dense model that can be trained several times, from its pre-trained weights each time."""

    def __init__(
        self, config: SearchConfig, compute: Compute, encoder: Encoder, text: Sequences
    ) -> None:
        """Prepare an encoder that is on its device, and as it was loaded.

        Args:
            config: The search whose batches and steps the training has.
            compute: Where and in which precision.
            encoder: Loaded with its head if the objective needs one.
            text: The training text of the search.
        """
        self._config, self._compute, self._encoder, self._text = config, compute, encoder, text
        self._parameters = dict(encoder.base.named_parameters())
        self._pretrained = copies(self._parameters)

    def objective(self, name: str) -> Objective:
        """Return a loss of the weights as they are, whose teacher is the pre-trained model."""
        return Objective(self._encoder, name, self._matrices, self._pretrained)

    @contextmanager
    def trained(self, steps: int, rate: float) -> Iterator[None]:
        """Train for some steps, and let the encoder have these weights in this context.

        Args:
            steps: Optimiser steps.
            rate: The rate of the first, which falls linearly to 0.

        Raises:
            DivergedError: The loss is no number any more.
        """
        config = self._config.filled_in(steps=steps)
        its = ObjectiveSteps(config, self._compute, self._encoder, self._text, self._matrices)
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
