"""Gradient sums: Σ g over the sequences, g the gradient of a sequence's log-likelihood.

This is the gradient of the whole calibration text as one batch. Shapes are those of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.pruning.statistics.losses import log_likelihood
from tamtctl.pruning.statistics.squared_gradients import cost as cost

loss = log_likelihood


def gatherer(shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> Sums:
    """Return a gatherer that adds up gradients."""
    return Sums(shapes, device)


class Sums:
    """Adds up gradients.

    Attributes:
        sums: Name → sum so far, of the shape of the weight.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self._shapes, self._device = shapes, device
        self.sums: dict[str, Tensor] = {}

    def see(self, name: str, gradients: Tensor, tokens: Tensor | None) -> None:
        """Add some gradients."""
        if name not in self.sums:
            self.sums[name] = torch.zeros(self._shapes[name], device=self._device)
        if tokens is not None:
            self.sums[name].index_add_(0, tokens, gradients)
            return
        for gradient in gradients:
            self.sums[name].add_(gradient)

    def end_batch(self) -> None:
        """Do nothing: minibatches make no difference to the sums."""

    def finish(self) -> dict[str, Tensor]:
        """Return name → sum."""
        return self.sums
