"""Random: every weight gets a random importance.

The control of the lottery ticket hypothesis (Frankle et al., 2019, arXiv:1803.03635). The
importances of a matrix depend on the seed and its name alone, not on the device or other matrices.

Relations: masks differ much between seeds, so take several. `magnitude` is the better start of a
training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → a number drawn from [0, 1) for every weight."""
    found = {}
    for name, weight in context.weights.items():
        digest = hashlib.sha256(f"{context.seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        found[name] = torch.rand(weight.shape, generator=generator)
    return found
