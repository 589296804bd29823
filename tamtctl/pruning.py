"""One-shot masks: by magnitude and at random, with the same sparsity in every matrix."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.selection import keep_count, keep_largest


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Return name → mask that keeps the largest |w| of every matrix; ties by lower flat index."""
    return {
        name: keep_largest(weight.abs(), keep_count(weight.numel(), sparsity))
        for name, weight in weights.items()
    }


def random_masks(weights: Mapping[str, Tensor], sparsity: float, seed: int) -> dict[str, Tensor]:
    """Return name → mask that keeps a random set of every matrix.

    A matrix's mask depends on the seed and its name alone, not on the device or its neighbours.
    """
    masks = {}
    for name, weight in weights.items():
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        draws = torch.rand(weight.shape, generator=generator)
        mask = keep_largest(draws, keep_count(weight.numel(), sparsity))
        masks[name] = mask.to(weight.device)
    return masks
