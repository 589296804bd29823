"""Unstructured: any weights of a matrix may be kept, exactly as many as the sparsity says.

The pattern of the lottery ticket hypothesis (Frankle et al., 2019, arXiv:1803.03635) and of TAMT
(Liu et al., 2022, §3.2), alike in every matrix.

Relations: it keeps the most quality at a sparsity, and makes nothing smaller or faster by itself;
patterns that hardware can use cost quality at the same sparsity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from tamtctl.foundations.masks import keep_count
from tamtctl.foundations.selection import keep_largest


def keep(shapes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, int]:
    """Return name → n − ⌊n · sparsity⌋ for a matrix of n weights."""
    return {name: keep_count(math.prod(shape), sparsity) for name, shape in shapes.items()}


def select(
    scores: Mapping[str, Tensor], keep: Mapping[str, int], among_equals: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return name → mask of the largest scores of each matrix."""
    return {
        name: keep_largest(scores[name], count, among_equals.get(name))
        for name, count in keep.items()
    }
