"""Gradient sums: Σ g over the sequences, g the gradient of a sequence's log-likelihood.

This is the gradient of the whole calibration text as one batch. Shapes are those of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.pruning.statistics.losses import log_likelihood

loss = log_likelihood


def cost(shape: tuple[int, ...], is_table: bool) -> int:
    """Return the bytes of as many numbers as there are weights."""
    return 4 * shape[0] * shape[1]


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
        total = self.sum_of(name)
        if tokens is not None:
            total.index_add_(0, tokens, gradients)
            return
        for gradient in gradients:
            total.add_(gradient)

    def sum_of(self, name: str) -> Tensor:
        """Return the sum so far of a weight's gradients, at first zeros."""
        if name not in self.sums:
            self.sums[name] = torch.zeros(self._shapes[name], device=self._device)
        return self.sums[name]

    def end_batch(self) -> None:
        """Do nothing: minibatches make no difference to the sums."""

    def finish(self) -> dict[str, Tensor]:
        """Return name → sum."""
        return self.sums
