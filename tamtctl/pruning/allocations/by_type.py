"""By type: embeddings have the sparsity of the whole model, other matrices share one threshold.

Movement pruning masks the layers alone (Sanh et al., 2020, arXiv:2005.07683). Here the sparsity of
the embeddings is known, so the sparsity of the layers can be compared with such papers.

Relations: `global_ranking` prunes the embeddings more, and has the lower loss at the same total.
"""

from __future__ import annotations

from collections.abc import Mapping

from tamtctl.pruning.allocations.global_ranking import share_out
from tamtctl.pruning.allocations.request import Request


def keep(request: Request) -> Mapping[str, int]:
    """Return name → how many weights a matrix keeps, for all matrices but the embeddings."""
    others = {
        name: one for name, one in request.importance.items() if name not in request.embeddings
    }
    return share_out(others, request)
