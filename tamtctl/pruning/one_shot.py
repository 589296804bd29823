"""Masks that take no training: of every matrix the weights that a criterion ranks highest."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.criteria import CRITERIA, REFERENCE, Criterion, find_criterion
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.patterns import PATTERNS, UNSTRUCTURED


def one_shot_masks(
    criterion: str, context: Context, keep: Mapping[str, int], pattern: str = UNSTRUCTURED
) -> dict[str, Tensor]:
    """Return name → mask of the weights that a criterion ranks highest.

    Args:
        criterion: A name on the shelf of criteria, or a combined order.
        context: What it may look at.
        keep: Name → how many weights to keep, of every matrix that gets a mask.
        pattern: Which sets of weights may be kept, a name on the shelf of patterns.

    Raises:
        UsageError: The criterion gives scores that cannot be ranked.
    """
    row, weights = find_criterion(criterion), context.weights
    given = row.scores(context)
    if strange := sorted(given.keys() - weights.keys()):
        raise UsageError(f"criterion {row.name!r} scores {strange[0]!r}, which is no matrix")
    scores = {
        name: _checked(row, name, given[name], weights[name]) for name in keep if name in given
    }
    ties = {n: weights[n].abs().to(s.device) for n, s in scores.items() if row.breaks_ties}
    if left := {name: weights[name] for name in keep if name not in scores}:
        scores |= CRITERIA[REFERENCE].scores(Context(weights=left))
    masks = PATTERNS.find(pattern).select(scores, keep, ties)
    return {name: masks[name].to(weights[name].device) for name in keep}


def reference_masks(
    weights: Mapping[str, Tensor], keep: Mapping[str, int], pattern: str = UNSTRUCTURED
) -> dict[str, Tensor]:
    """Return name → mask of the reference, from which flips are counted."""
    chosen = {name: weights[name] for name in keep}
    return one_shot_masks(REFERENCE, Context(weights=chosen), keep, pattern)


def keep_counts(
    weights: Mapping[str, Tensor], sparsity: float, pattern: str = UNSTRUCTURED
) -> dict[str, int]:
    """Return name → how many weights of a matrix a sparsity keeps that is alike in all of them."""
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    return PATTERNS.find(pattern).keep(shapes, sparsity)


def _checked(row: Criterion, name: str, scores: Tensor, weight: Tensor) -> Tensor:
    if scores.shape != weight.shape:
        raise UsageError(
            f"criterion {row.name!r} gives scores of {name} of shape {list(scores.shape)}, "
            f"for a matrix of shape {list(weight.shape)}"
        )
    if bool(scores.isnan().any()):
        raise UsageError(f"criterion {row.name!r} gives scores of {name} that are no numbers")
    return scores
