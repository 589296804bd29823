"""Patterns of structures: groups of weights that are kept or pruned as a whole.

A structure, such as a neuron, has one score: the sum of its weights' scores. A mask keeps the
structures with the largest scores. Everything else works as for single weights: scores are learned
(the gradient of a structure's score is the sum over its weights), ties are broken, and thresholds
are found.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.foundations.masks import keep_count
from tamtctl.foundations.selection import keep_largest
from tamtctl.models.structures import Slices, Structures


def keep(structures: Structures, sparsity: float) -> dict[str, int]:
    """Return name → how many weights a matrix keeps, of those with structures.

    Args:
        structures: The structures.
        sparsity: Share of the structures of each group that is pruned.
    """
    counts = {group: keep_count(slices[0].count, sparsity) for group, slices in structures.items()}
    return weights_kept(structures, counts)


def select(
    structures: Structures,
    scores: Mapping[str, Tensor],
    keep: Mapping[str, int],
    among_equals: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return name → mask that keeps the structures whose weights have the largest scores in sum."""
    return select_of(structures, sums(structures, scores), keep, sums(structures, among_equals))


def select_of(
    structures: Structures,
    scores: Mapping[str, Tensor],
    keep: Mapping[str, int],
    among_equals: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return name → mask that keeps the structures with the largest scores.

    Args:
        structures: Group → how its structures lie in matrices, see `tamtctl.models.structures`.
        scores: Group → score of each of its structures.
        keep: Name → how many weights each matrix keeps.
        among_equals: Group → value of each structure; of equal scores the larger value is kept.
    """
    counts = kept_of(structures, keep)
    masks: dict[str, Tensor] = {}
    for group, slices in structures.items():
        chosen = keep_largest(scores[group], counts[group], among_equals.get(group))
        masks |= {one.matrix: spread(one, chosen) for one in slices}
    return masks


def kept_of(structures: Structures, keep: Mapping[str, int]) -> dict[str, int]:
    """Return group → how many structures are kept, given how many weights each matrix keeps."""
    return {
        group: keep[slices[0].matrix] // slices[0].weights_each
        for group, slices in structures.items()
    }


def weights_kept(structures: Structures, counts: Mapping[str, int]) -> dict[str, int]:
    """Return name → how many weights a matrix keeps, given how many structures each group keeps."""
    return {
        one.matrix: counts[group] * one.weights_each
        for group, slices in structures.items()
        for one in slices
    }


def sums(structures: Structures, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return group → sum of the values of each structure's weights, where ``values`` has them all.

    Args:
        structures: The structures.
        values: Name → value of every weight.
    """
    return {
        group: torch.stack([summed(one, values[one.matrix], exactly=True) for one in slices]).sum(0)
        for group, slices in structures.items()
        if all(one.matrix in values for one in slices)
    }


def summed(slices: Slices, values: Tensor, *, exactly: bool = False) -> Tensor:
    """Return the sum of the values of each structure's weights, shape (structures,).

    Args:
        slices: How the structures lie in a matrix.
        values: Value of every weight of the matrix.
        exactly: Sum in float64.
    """
    view = values.reshape(slices.view)
    dtype = torch.float64 if exactly else values.dtype
    return view.sum(slices.others, dtype=dtype).flatten() if slices.others else view.flatten()


def kept_structures(structures: Structures, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return group → boolean tensor, shape (structures,): which structures the masks keep."""
    return {
        group: summed(slices[0], masks[slices[0].matrix].int()) > 0
        for group, slices in structures.items()
    }


def spread(slices: Slices, values: Tensor) -> Tensor:
    """Return a tensor of the matrix's shape with each structure's value at all of its weights.

    Args:
        slices: How the structures lie in the matrix.
        values: Shape (structures,).
    """
    places = [size if axis in slices.axes else 1 for axis, size in enumerate(slices.view)]
    return values.view(places).expand(slices.view).reshape(slices.shape)
