"""How a ticket that was made of tickets looks on a screen."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tamtctl.cli.console import Page
from tamtctl.foundations import printable
from tamtctl.foundations.counts import count
from tamtctl.foundations.folders import size

if TYPE_CHECKING:
    from tamtctl.pruning.combining.result import CombineResult


def show_combination(output: Page, result: CombineResult) -> None:
    """Print the new ticket, the tickets that it was made of, and what to type next."""
    all_votes = len(result.tickets)
    shown = [f"{kept:,} have {voted} of {all_votes}" for voted, kept in result.votes.items()]
    output.facts(
        {
            "model": result.model,
            "tickets": f"{all_votes}: {', '.join(result.tickets)}",
            "mask": f"keeps {result.kept:,} of {result.weights:,} weights in "
            f"{count(result.matrices, 'matrix', 'matrices')}, sparsity {result.sparsity:.4f}",
            "votes": f"of the weights kept, {', '.join(shown)}" if shown else "no weight is kept",
            "made by": _how(result),
            "head": f"that of {result.tickets[0]}" if result.head else "none",
        }
    )
    for note in result.notes:
        output.notes.line(f"note    {note}")
    if result.empty:
        output.notes.line(f"note    of {printable.first(result.empty)} nothing is kept")
    output.line(f"ticket  {result.ticket} ({size(result.bytes)})")
    tickets = [*result.tickets, str(result.ticket)]
    output.hint(f"next    tamtctl compare {' '.join(map(shlex.quote, tickets))}")


def _how(result: CombineResult) -> str:
    """Return by which rule weights are kept, and how many of each matrix."""
    if result.target_sparsity is None:
        return f"the {result.operation}"
    if result.shared_out == "uniform":
        share = f"{result.sparsity:.4g} of every matrix are zeros"
    else:
        share = f"zeros are shared out over the matrices as in {result.tickets[0]}"
    return (
        f"the most votes, among equals the largest magnitude; {share} (the {result.operation} "
        f"alone keeps {result.kept_by_operation:,})"
    )
