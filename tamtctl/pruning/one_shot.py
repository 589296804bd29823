"""Masks that take no training: of every matrix the weights that a criterion ranks highest."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.selection import keep_count, keep_largest
from tamtctl.pruning.criteria import CRITERIA, REFERENCE, Criterion
from tamtctl.pruning.criteria.context import Context


def one_shot_masks(criterion: str, context: Context, keep: Mapping[str, int]) -> dict[str, Tensor]:
    """Return name → mask of the weights that a criterion ranks highest.

    Args:
        criterion: A name on the shelf of criteria.
        context: What it may look at.
        keep: Name → how many weights to keep, of every matrix that gets a mask.

    Raises:
        UsageError: The criterion gives scores that cannot be ranked.
    """
    row = CRITERIA.find(criterion)
    scores = row.scores(context)
    if strange := sorted(scores.keys() - context.weights.keys()):
        raise UsageError(f"criterion {row.name!r} scores {strange[0]!r}, which is no matrix")
    masks = {}
    for name, count in keep.items():
        weight = context.weights[name]
        if name in scores:
            masks[name] = _ranked(row, name, scores[name], weight, count)
    if left := {name: count for name, count in keep.items() if name not in masks}:
        masks |= reference_masks(context.weights, left)
    return {name: masks[name] for name in keep}


def reference_masks(weights: Mapping[str, Tensor], keep: Mapping[str, int]) -> dict[str, Tensor]:
    """Return name → mask of the reference, from which flips are counted."""
    chosen = {name: weights[name] for name in keep}
    return one_shot_masks(REFERENCE, Context(weights=chosen), keep)


def keep_counts(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, int]:
    """Return name → how many weights of a matrix a sparsity keeps that is alike in all of them."""
    return {name: keep_count(weight.numel(), sparsity) for name, weight in weights.items()}


def _ranked(row: Criterion, name: str, scores: Tensor, weight: Tensor, keep: int) -> Tensor:
    if scores.shape != weight.shape or bool(scores.isnan().any()):
        raise UsageError(
            f"criterion {row.name!r} gives scores of {name} that are no numbers"
            if scores.shape == weight.shape
            else f"criterion {row.name!r} gives scores of {name} of shape {list(scores.shape)}, "
            f"for a matrix of shape {list(weight.shape)}"
        )
    among_equals = weight.abs().to(scores.device) if row.breaks_ties else None
    return keep_largest(scores, keep, among_equals).to(weight.device)
