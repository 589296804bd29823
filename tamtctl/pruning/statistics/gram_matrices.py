"""Gram matrices: XᵀX over the tokens, of the inputs X of a linear layer, shape (in, in).

For a table of word embeddings it is diagonal, and only the diagonal is kept: the smoothed frequency
of every token, shape (V, 1), see `input_norms`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.pruning.statistics.gathering import Inputs
from tamtctl.pruning.statistics.input_norms import smoothed


def cost(shape: tuple[int, ...], is_table: bool) -> int:
    """Return the bytes of a Gram matrix: 38 MB for 3,072 inputs."""
    return 4 * (shape[0] if is_table else shape[1] ** 2)


def gatherer(shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> Products:
    """Return a gatherer that adds up products of inputs."""
    return Products(shapes, device)


class Products:
    """Adds up XᵀX in place, so that each matrix is held once.

    Attributes:
        grams: Name → XᵀX so far, shape (in, in).
        counts: Name of a table → how often each token was seen so far, shape (V,).
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self._shapes, self._device = shapes, device
        self.grams: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def see(self, name: str, inputs: Inputs) -> None:
        """Add the products of some inputs."""
        shape = self._shapes[name]
        if inputs.values is not None:
            if name not in self.grams:
                self.grams[name] = torch.zeros(shape[1], shape[1], device=self._device)
            self.grams[name].addmm_(inputs.values.T, inputs.values, alpha=inputs.times)
        elif inputs.tokens is not None:
            counts = inputs.tokens.bincount(minlength=shape[0]).float()
            self.counts[name] = self.counts.get(name, 0) + counts

    def finish(self) -> dict[str, Tensor]:
        """Return name → Gram matrix; for a table, only its diagonal."""
        return self.grams | {name: smoothed(counts) for name, counts in self.counts.items()}
