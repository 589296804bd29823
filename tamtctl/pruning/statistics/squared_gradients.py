"""Squared gradients: E[g²] over the sequences, g the gradient of a sequence's log-likelihood.

The diagonal of the empirical Fisher information: the labels are those of the text, and are not
drawn from the model. Each sequence's gradient is squared by itself, for the square of a batch's sum
is something else.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.pruning.statistics.gradient_sums import Sums
from tamtctl.pruning.statistics.gradient_sums import cost as cost
from tamtctl.pruning.statistics.losses import log_likelihood

loss = log_likelihood


def gatherer(shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> Squares:
    """Return a gatherer that adds up squares of gradients."""
    return Squares(shapes, device)


class Squares(Sums):
    """Adds up squares of the gradients of single sequences."""

    def see(self, name: str, gradients: Tensor, tokens: Tensor | None) -> None:
        """Add the squares of some gradients."""
        if tokens is not None:
            super().see(name, gradients.square(), tokens)
            return
        total = self.sum_of(name)
        for gradient in gradients:  # each in one go over the memory
            total.addcmul_(gradient, gradient)
