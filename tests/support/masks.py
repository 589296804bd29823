"""The masks that tests take where any will do: of one sparsity in every matrix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.one_shot import keep_counts, one_shot_masks, reference_masks
from tamtctl.pruning.trained.initial_scores import Start


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Return name → mask of the largest |w| of every matrix."""
    return reference_masks(weights, keep_counts(weights, sparsity))


def random_masks(weights: Mapping[str, Tensor], sparsity: float, seed: int) -> dict[str, Tensor]:
    """Return name → mask of any weights of every matrix."""
    context = Context(weights=weights, seed=seed)
    return one_shot_masks("random", context, keep_counts(weights, sparsity))


def start_of(masks: Mapping[str, Tensor]) -> Start:
    """Return where a training with two-valued scores starts that has these masks at first."""
    return Start(dict(masks), {name: int(mask.sum()) for name, mask in masks.items()})
