"""How a listing of tickets looks: names in full, and as many columns as there is room for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from tamtctl.cli.console import Page
from tamtctl.cli.layout import Column, Sheet, fitting
from tamtctl.foundations import printable
from tamtctl.foundations.folders import size
from tamtctl.pruning.methods import sweep_name
from tamtctl.pruning.objectives import objectives, short_unit, terms_of
from tamtctl.ticket.listing import Listing, TicketLine

_INDENT = 9  # column at which the text behind a label begins
_ALWAYS = 4  # columns: name, loss, sparsity and date


def show_listing(output: Page, listing: Listing) -> None:
    """Print the tickets and the damaged ones; as hints, notes and what to type next."""
    sheet = Sheet(output, _INDENT)
    if listing.tickets:
        everything = _columns(listing.tickets)
        shown = fitting(everything, sheet.width, _ALWAYS)
        sheet.table(shown)
        if left_out := [column.heading for column in everything[len(shown) :]]:
            sheet.words(f"({', '.join(left_out)}: in a wider window, or with --json)")
    for one in listing.damaged:
        sheet.fact("damaged", f"{printable.cell(one.name)}: {one.problem}; inspect tells more")
    output.hint("")
    _show_remarks(Sheet(output.notes, _INDENT), listing.tickets)


def _columns(tickets: list[TicketLine]) -> list[Column]:
    """Return the columns, the most important first."""
    models = [printable.cell(one.base_model) for one in tickets]
    columns = [
        Column("ticket", [printable.cell(one.name) for one in tickets]),
        Column("loss", _losses(tickets)),
        Column("sparsity", [f"{one.sparsity:.4g}" for one in tickets]),
        Column("date", [str(one.time.date()) for one in tickets]),
        Column("method", [printable.cell(_how(one)) for one in tickets]),
        Column("size", [size(one.bytes) for one in tickets], right=True),
    ]
    if any(one.sparsities for one in tickets):
        shown = ["/".join(f"{s:.2f}" for s in one.sparsities.values()) or "–" for one in tickets]
        columns.append(Column("emb/layers", shown))
    if len(set(models)) > 1:  # one model of all is said once, outside the table
        columns.insert(_ALWAYS, Column("base model", models))
    return columns


def _how(ticket: TicketLine) -> str:
    method = sweep_name(ticket.method, ticket.objective)
    return f"{method}, {ticket.pattern}" if ticket.pattern else method


def _losses(tickets: Sequence[TicketLine]) -> list[str]:
    numbers = ["–" if one.loss is None else f"{one.loss:.3f}" for one in tickets]
    width = max(map(len, numbers), default=0)
    units = [short_unit(one.objective) if one.loss is not None else "" for one in tickets]
    return [f"{n:>{width}} {unit}".rstrip() for n, unit in zip(numbers, units, strict=True)]


def _show_remarks(sheet: Sheet, tickets: Sequence[TicketLine]) -> None:
    models = {printable.cell(one.base_model) for one in tickets}
    if len(models) == 1:
        sheet.fact("model", f"all are tickets of {models.pop()}")
    measured = {(one.base_model, one.objective) for one in tickets if one.loss is not None}
    if measured:
        told = "; ".join(
            f"{short_unit(objective)}: {terms_of(objective).unit}"
            for objective in objectives()
            if any(objective == o for _, o in measured)
        )
        line = "on held-out text, lower is better" + (f" ({told})" if told else "")
        if len(measured) > 1:
            line += "; to be compared only within one model and unit"
        sheet.fact("loss", line)
    if not any(one.kind == "run" for one in tickets):
        sheet.fact("yours", "none under runs/ here; tamtctl search --sparsity 0.8 finds one")
    if newest := max(tickets, key=lambda one: one.time, default=None):
        sheet.commands("next", [f"tamtctl inspect {shlex.quote(printable.cell(newest.name))}"])
