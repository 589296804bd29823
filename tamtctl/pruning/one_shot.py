"""One-shot masks: by magnitude and at random, with the same sparsity in every matrix."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.foundations.selection import keep_count, keep_largest


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Return name → mask that keeps the largest |w| of every matrix; ties by lower flat index."""
    return magnitude_masks_of(weights, _counts(weights, sparsity))


def magnitude_masks_of(
    weights: Mapping[str, Tensor], counts: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return name → mask that keeps so many of the largest |w|, of the matrices with a count."""
    return {name: keep_largest(weights[name].abs(), count) for name, count in counts.items()}


def random_masks(weights: Mapping[str, Tensor], sparsity: float, seed: int) -> dict[str, Tensor]:
    """Return name → mask that keeps a random set of every matrix.

    A matrix's mask depends on the seed and its name alone, not on the device or its neighbours.
    """
    return random_masks_of(weights, _counts(weights, sparsity), seed)


def random_masks_of(
    weights: Mapping[str, Tensor], counts: Mapping[str, int], seed: int
) -> dict[str, Tensor]:
    """Return name → mask that keeps so many random weights, of the matrices with a count."""
    masks = {}
    for name, count in counts.items():
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        draws = torch.rand(weights[name].shape, generator=generator)
        masks[name] = keep_largest(draws, count).to(weights[name].device)
    return masks


def _counts(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, int]:
    return {name: keep_count(weight.numel(), sparsity) for name, weight in weights.items()}
