"""By type: the embeddings have the sparsity of the whole, and all other matrices share a threshold.

Movement pruning masks the layers alone (Sanh et al., 2020, arXiv:2005.07683): with embeddings of a
known sparsity, that of the layers can be set beside the numbers of such papers.

Relations: `global_ranking` prunes the embeddings more, and has the lower loss at the same total.
"""

from __future__ import annotations

from collections.abc import Mapping

from tamtctl.pruning.allocations.global_ranking import share_out
from tamtctl.pruning.allocations.request import Request


def keep(request: Request) -> Mapping[str, int]:
    """Return the counts of one threshold for all matrices that are no embeddings."""
    others = {
        name: one for name, one in request.importance.items() if name not in request.embeddings
    }
    return share_out(others, request)
