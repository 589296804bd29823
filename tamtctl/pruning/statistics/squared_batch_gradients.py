"""Squared batch gradients: E[g²], g the gradient of the log-likelihood of a whole minibatch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.pruning.statistics.gradient_sums import Sums
from tamtctl.pruning.statistics.losses import log_likelihood

loss = log_likelihood


def cost(shape: tuple[int, ...], is_table: bool) -> int:
    """Return the bytes of the squares and of the gradient of a minibatch."""
    return 2 * 4 * shape[0] * shape[1]


def gatherer(shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> _BatchSquares:
    """Return a gatherer that adds up gradients within a minibatch, and then their squares."""
    return _BatchSquares(shapes, device)


class _BatchSquares(Sums):
    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        super().__init__(shapes, device)
        self._squares: dict[str, Tensor] = {}

    def end_batch(self) -> None:
        """Square the sums of the minibatch, and begin the next one."""
        for name, total in self.sums.items():
            if name not in self._squares:
                self._squares[name] = torch.zeros_like(total)
            self._squares[name].addcmul_(total, total)
            total.zero_()

    def finish(self) -> dict[str, Tensor]:
        """Return name → sum of squares; a constant factor changes no order."""
        return self._squares
