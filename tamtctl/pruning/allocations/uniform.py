"""Uniform: every matrix has the sparsity of the whole.

The allocation of TAMT (Liu et al., 2022, §3.1), and the one that two masks are most fairly compared
at: they then differ in nothing but which weights they keep.

Relations: `global_ranking` has the lower loss at the same total, and prunes the embeddings most.
"""

from __future__ import annotations

from collections.abc import Mapping

from tamtctl.pruning.allocations.request import Request


def keep(request: Request) -> Mapping[str, int]:
    """Return the counts of one sparsity in every matrix."""
    return request.even
