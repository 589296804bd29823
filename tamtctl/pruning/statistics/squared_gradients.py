"""Squared gradients: E[g²] over the sequences, g the gradient of a sequence's log-likelihood.

The diagonal of the empirical Fisher information: the labels are those of the text, and are not
drawn from the model. Each sequence's gradient is squared by itself, for the square of a batch's sum
is something else.
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


def gatherer(shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> Squares:
    """Return a gatherer that adds up squares of gradients."""
    return Squares(shapes, device)


class Squares:
    """Adds up squares of the gradients of single sequences."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self._shapes, self._device = shapes, device
        self._sums: dict[str, Tensor] = {}
        self._sequences = 0

    def see(self, name: str, gradients: Tensor, tokens: Tensor | None) -> None:
        """Add the squares of some gradients."""
        if name not in self._sums:
            self._sums[name] = torch.zeros(self._shapes[name], device=self._device)
        if tokens is not None:
            self._sums[name].index_add_(0, tokens, gradients.square())
            return
        for gradient in gradients:  # each in one go over the memory
            self._sums[name].addcmul_(gradient, gradient)

    def end_batch(self) -> None:
        """Do nothing: minibatches make no difference to these sums."""

    def finish(self) -> dict[str, Tensor]:
        """Return name → sum of squares; a constant factor changes no order."""
        return self._sums
