"""n:m, such as 2:4: n of every m neighbours in a row of a linear layer are kept.

Sparse tensor cores multiply 2:4 matrices twice as fast (Mishra et al., 2021, arXiv:2104.08378, §3).
The neighbours are m inputs of one output. The intermediate masks of iterative pruning keep more
than n of some groups, and n at least.

Relations: its loss is little above that of `unstructured` at the same sparsity; the speed-up takes
a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.foundations.masks import keep_count
from tamtctl.foundations.selection import keep_largest
from tamtctl.models.structures import Shapes


def keep(shapes: Shapes, sparsity: float, kept: int, size: int) -> dict[str, int]:
    """Return name → n of every m weights, or more if the sparsity is lower than that of n:m.

    Raises:
        ValueError: The length of a matrix's rows is no multiple of m.
    """
    counts = {}
    for name, shape in shapes.items():
        if len(shape) != 2 or shape[1] % size:
            raise ValueError(f"{name} has rows of {shape[-1]} weights, no multiple of {size}")
        numel = math.prod(shape)
        least = numel // size * kept
        # The sparsity of n:m, such as 2/3, may have no exact decimal form.
        is_all = math.isclose(sparsity, 1 - kept / size, abs_tol=1e-6)
        counts[name] = least if is_all else max(least, keep_count(numel, sparsity))
    return counts


def select(
    scores: Mapping[str, Tensor],
    keep: Mapping[str, int],
    among_equals: Mapping[str, Tensor],
    kept: int,
    size: int,
) -> dict[str, Tensor]:
    """Return name → mask of the n largest scores of every m, then of the largest of the others."""
    masks = {}
    for name, count in keep.items():
        values, rank = scores[name], among_equals.get(name)
        mask = _largest_of_each(values, rank, kept, size)
        if count > values.numel() // size * kept:
            first = values.masked_fill(mask, torch.inf)
            mask = keep_largest(first, count, rank)
        masks[name] = mask
    return masks


def _largest_of_each(values: Tensor, among_equals: Tensor | None, kept: int, size: int) -> Tensor:
    """Return the mask of the ``kept`` largest of every ``size`` neighbours.

    Args:
        values: Shape (R, C), C a multiple of ``size``.
        among_equals: Of equal values, the one that is larger here is kept, then the earlier one.
        kept: n.
        size: m.
    """
    groups = values.reshape(-1, size)  # (G, m)
    if among_equals is None:
        order = groups.argsort(dim=1, descending=True, stable=True)
    else:  # sorted by the lesser key first
        order = among_equals.reshape(-1, size).argsort(dim=1, descending=True, stable=True)
        by_value = groups.gather(1, order).argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, by_value)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    return mask.scatter_(1, order[:, :kept], True).reshape(values.shape)
