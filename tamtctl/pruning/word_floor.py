"""Which searches forget the words that their text lacks, and may be given ``--word-floor``.

A criterion that looks at a text gives no importance to the words that the text lacks. Ranked with
the others, they lose their whole embedding, and every task that has these words loses with them.
The floor lets every word keep its most important weights. Imports nothing heavy.
"""

from __future__ import annotations

from tamtctl.pruning.criteria import find_criterion, is_criterion
from tamtctl.pruning.methods import IMP, TAMT
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.settings import NATS


def why_no_word_floor(method: str, init: str, init_scores: str, pattern: str) -> str:
    """Return why a search has no use for ``--word-floor``; empty if it has.

    Args:
        method: How the mask is found.
        init: The criterion or ticket that mask training starts from.
        init_scores: The scores that mask training starts from.
        pattern: Which weights a mask may keep together.
    """
    if not find_pattern(pattern).is_followed:
        return f"--pattern {pattern} leaves the embeddings dense or prunes them in blocks"
    if method == IMP:
        return "imp ranks by weights that it trains, and not by the text"
    order = init if method == TAMT else method
    if not is_criterion(order):
        return f"--init {init} is a ticket, which says itself what every word keeps"
    if not find_criterion(order).needs_text:
        return f"{order} does not look at the text, and so forgets no word"
    if method == TAMT and init_scores != NATS:
        return f"with --init-scores {init_scores}, training may prune any weight"
    return ""
