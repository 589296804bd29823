"""How several inspected tickets look on a screen: each in a line, and how alike every two are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tamtctl.cli.console import Page
from tamtctl.cli.layout import Column, Sheet
from tamtctl.foundations import printable
from tamtctl.pruning.objectives import short_unit
from tamtctl.ticket.flips import Flips
from tamtctl.ticket.inspection import TicketComparison
from tamtctl.ticket.mask_shares import Part, Uniform, layers, types
from tamtctl.ticket.measured import Measured
from tamtctl.ticket.similarity import Similarity
from tamtctl.ticket.ticket import Ticket

_INDENT = 4
_LAYERS = 12  # lines at most; of more layers, several share a line


def show_comparison(output: Page, comparison: TicketComparison, *, full: bool = False) -> None:
    """Print several tickets side by side.

    Args:
        output: Where it is printed.
        comparison: The tickets, and how alike every two are.
        full: Show every matrix of every two tickets.
    """
    sheet = Sheet(output, _INDENT)
    numbers = [str(number) for number in range(1, len(comparison.names) + 1)]
    names = [printable.cell(name) for name in comparison.names]
    tickets, flips = comparison.tickets, comparison.flips
    sheet.facts({
        number: _line(name, ticket, of)
        for number, name, ticket, of in zip(numbers, names, tickets, flips, strict=True)
    })  # fmt: skip
    _show_similarities(sheet, comparison)
    every = list(dict.fromkeys(name for ticket in tickets for name in ticket.parameters))
    uniform = [Uniform.of(ticket) for ticket in tickets]
    if all(one and not one.exceptions for one in uniform):
        told = [f"{n}: {one.sparsity:.4g}" for n, one in zip(numbers, uniform, strict=True) if one]
        sheet.section("Sparsity", f"the same in every matrix of a ticket ({', '.join(told)})")
    else:
        for heading, parts in (("layer", layers(every, _LAYERS)), ("matrix", types(every))):
            sheet.section(f"Sparsity by {heading}")
            sheet.table(_sparsities(heading, parts, numbers, tickets))
    if any(of.counts for of in flips):
        for heading, parts in (("layer", layers(every, _LAYERS)), ("matrix", types(every))):
            sheet.section(f"Flipped by {heading}")
            sheet.table(_flips(heading, parts, numbers, flips))
    if full:
        for one in comparison.similarities:
            _show_every_matrix(sheet, one)


def _line(name: str, ticket: Ticket, flips: Flips) -> str:
    """Return a line on a ticket: what sets it apart from the others."""
    how = ticket.method + (f" for {ticket.objective}" if ticket.objective else "")
    facts = [f"{how} of {ticket.base_model.id}", f"sparsity {ticket.sparsity:.4g}"]
    if (loss := Measured.of(ticket).losses.get("ticket")) is not None:
        facts.append(f"held-out loss {loss:.3f} {short_unit(ticket.objective)}".rstrip())
    facts.append("flips not known here" if flips.share is None else f"{flips.share:.1%} flipped")
    return f"{name}: {', '.join(facts)}"


def _show_similarities(sheet: Sheet, comparison: TicketComparison) -> None:
    similar, shared = comparison.similarities, comparison.shared_flips
    if not similar:
        sheet.words("These tickets mask different matrices, so that no masks can be compared.")
        return
    columns = [
        Column("tickets", [f"{one.a + 1} and {one.b + 1}" for one in similar]),
        _numbers("kept alike", [one.average.jaccard for one in similar]),
        _numbers("by chance", [one.average.chance_jaccard for one in similar]),
    ]
    if shared:
        found = [shared.get((one.a, one.b)) for one in similar]
        columns.append(_numbers("flipped alike", [one.jaccard if one else None for one in found]))
        columns.append(_numbers("by chance", [one.chance if one else None for one in found]))
    sheet.section(
        "How alike the masks are",
        "Jaccard similarity, the mean over the matrices that both have: of the weights that either "
        "keeps (or flips), the share that both do. By chance: two random masks of the same "
        "sparsities (or as many flips, spread at random) on average."
        + (
            " Most masks keep the large weights, and so keep alike; flips are where a mask differs "
            "from the magnitude mask."
            if shared
            else ""
        ),
    )
    sheet.table(columns)
    if len(similar) < math.comb(len(comparison.names), 2):
        sheet.words("Tickets that mask different matrices have no row here.")
    if not all(one.same_base for one in similar):
        sheet.words("Not all are masks of the same weights.")
    for number, flips in enumerate(comparison.flips, start=1):
        if flips.unknown:
            sheet.words(f"The flips of {number} are not known here: {flips.unknown}.")


def _numbers(heading: str, values: Sequence[float | None], digits: int = 4) -> Column:
    shown = ["–" if value is None else f"{value:.{digits}f}" for value in values]
    return Column(heading, shown, right=True)


def _sparsities(
    heading: str, parts: Sequence[Part], numbers: Sequence[str], tickets: Sequence[Ticket]
) -> list[Column]:
    columns = [Column(heading, [part.label for part in parts])]
    for number, ticket in zip(numbers, tickets, strict=True):
        columns.append(_numbers(number, [part.sparsity(ticket) for part in parts]))
    return columns


def _flips(
    heading: str, parts: Sequence[Part], numbers: Sequence[str], flips: Sequence[Flips]
) -> list[Column]:
    columns = [Column(heading, [part.label for part in parts])]
    for number, of in zip(numbers, flips, strict=True):
        shares = [part.flipped(of) for part in parts]
        shown = ["–" if share is None else f"{share:.1%}" for share in shares]
        columns.append(Column(number, shown, right=True))
    return columns


def _show_every_matrix(sheet: Sheet, one: Similarity) -> None:
    sheet.section(f"Every matrix of {one.a + 1} and {one.b + 1}")
    found = list(one.matrices.values())
    sheet.table(
        [
            Column("matrix", list(one.matrices)),
            _numbers("kept alike", [o.jaccard for o in found]),
            _numbers("by chance", [o.chance_jaccard for o in found]),
            _numbers("same bit", [o.hamming for o in found]),
            _numbers("by chance", [o.chance_hamming for o in found]),
        ]
    )
