"""Input norms: Σ x_j² over the tokens, for every input j of a matrix.

The shape broadcasts over the weights: (1, in) for a linear layer, and (V, 1) for a table of word
embeddings. The input of a table is 1 for the token that is looked up and 0 for all others, so that
Σ x² is the frequency of the token. It is smoothed, as the Gram matrix is damped (see `curvatures`),
so that tokens that are not in the text are still ranked by their weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.pruning.statistics.gathering import Inputs

SMOOTHING = 0.01  # of the mean frequency, added to that of every token


def cost(shape: tuple[int, ...], is_table: bool) -> int:
    """Return the bytes of a matrix's sums."""
    return 4 * (shape[0] if is_table else shape[1])


def gatherer(shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> _Sums:
    """Return a gatherer that adds up squares of inputs."""
    return _Sums(shapes, device)


class _Sums:
    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self._shapes, self._device = shapes, device
        self._linear: dict[str, Tensor] = {}  # each (in,)
        self._counts: dict[str, Tensor] = {}  # each (V,)

    def see(self, name: str, inputs: Inputs) -> None:
        if inputs.values is not None:
            sums = inputs.values.square().sum(0) * inputs.times
            self._linear[name] = self._linear.get(name, 0) + sums
        elif inputs.tokens is not None:
            counts = inputs.tokens.bincount(minlength=self._shapes[name][0]).float()
            self._counts[name] = self._counts.get(name, 0) + counts

    def finish(self) -> dict[str, Tensor]:
        found = {name: sums.unsqueeze(0) for name, sums in self._linear.items()}
        return found | {name: smoothed(counts) for name, counts in self._counts.items()}


def smoothed(counts: Tensor) -> Tensor:
    """Return counts of tokens, shape (V,), smoothed so that none is 0, in shape (V, 1)."""
    return (counts + SMOOTHING * counts.mean()).unsqueeze(1)
