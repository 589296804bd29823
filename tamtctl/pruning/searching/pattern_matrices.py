"""The matrices that a search masks under a sparsity pattern, and tickets that fit the pattern."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tamtctl.foundations.errors import UsageError
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.one_shot import keep_counts
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.ticket.ticket import Ticket


def with_matrices_of_pattern(
    config: SearchConfig, encoder: Encoder, note: Callable[[str], None]
) -> Encoder:
    """Return the encoder, its maskable matrices reduced to those that the pattern applies to.

    Args:
        config: The whole search.
        encoder: The encoder with all of its matrices.
        note: Is given a line for people about matrices that stay dense.

    Raises:
        UsageError: The shapes do not allow this pattern, or it applies to none of the matrices.
    """
    sparsity = config.settled_sparsity
    counts = keep_counts(encoder.weights, sparsity, config.pattern, encoder.embeddings)
    matrices = {name: p for name, p in encoder.matrices.items() if name in counts}
    if not matrices:
        raise UsageError(f"--pattern {config.pattern} is for no matrix of model {config.model!r}")
    pooler = {name: weight for name, weight in encoder.pooler.items() if name in counts}
    if dense := [name for name in encoder.weights if name not in counts]:
        note(
            f"--pattern {config.pattern} is for {len(counts)} of {len(encoder.weights)} matrices; "
            + (
                f"{dense[0]} and {len(dense) - 1} more stay dense"
                if dense[1:]
                else f"{dense[0]} stays dense"
            )
        )
    return replace(encoder, matrices=matrices, pooler=pooler)


def check_pattern_of_start(config: SearchConfig, ticket: Ticket) -> None:
    """Refuse to start from a ticket whose masks have another pattern than the search.

    An unstructured search may start from any ticket.

    Raises:
        UsageError: The patterns differ.
    """
    if config.pattern in (UNSTRUCTURED, ticket.pattern):
        return
    raise UsageError(
        f"--pattern {config.pattern} cannot start from --init {config.init}, a ticket of the "
        f"pattern {ticket.pattern}; give a ticket of {config.pattern}, or a criterion"
    )
