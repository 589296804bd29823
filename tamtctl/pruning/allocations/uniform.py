"""Uniform: every matrix has the sparsity of the whole.

The allocation of TAMT (Liu et al., 2022, §3.1). It makes the fairest comparison of two masks: they
then differ only in which weights of each matrix they keep.

Relations: `global_ranking` has a lower loss at the same total sparsity; it prunes the embeddings
most.
"""

from __future__ import annotations

from collections.abc import Mapping

from tamtctl.pruning.allocations.request import Request


def keep(request: Request) -> Mapping[str, int]:
    """Return name → how many weights a matrix keeps at the sparsity of the whole model."""
    return request.even
