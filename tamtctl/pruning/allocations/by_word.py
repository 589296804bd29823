"""By word: as `by_type`, and every word keeps the same share of its embedding.

A criterion that looks at a text gives no importance to the words that the text lacks. Ranked with
the others, they lose their whole embedding, and every task that has these words loses with them.
Here the weights of a word compete with each other alone, as those of an output do in Wanda (Sun et
al., 2023, arXiv:2306.11695, §3), and a word that was never seen keeps its largest.

Relations: `by_type` has a lower loss on the text of the search, and a higher one on other text.
"""

from __future__ import annotations

from collections.abc import Mapping

from tamtctl.pruning.allocations import by_type
from tamtctl.pruning.allocations.request import Request


def keep(request: Request) -> Mapping[str, int]:
    """Return name → how many weights a matrix keeps, for all matrices but the embeddings."""
    return by_type.keep(request)
