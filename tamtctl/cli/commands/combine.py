"""``tamtctl combine``: make one ticket of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.completion import among
from tamtctl.cli.options import EncodingOption, TokenOption
from tamtctl.cli.screen import hush_hub, hush_libraries, watched
from tamtctl.pruning.combining.operations import MAJORITY, OPERATIONS
from tamtctl.ticket.local_names import ticket_names

if TYPE_CHECKING:
    from tamtctl.cli.console import Output

_OPERATIONS = "; ".join(f"{one.name}, {one.summary}" for one in OPERATIONS.values())


@command()
def combine(
    output: Output,
    tickets: Annotated[
        list[str],
        typer.Argument(
            metavar="TICKET",
            help="Two or more tickets of one model: folder, packaged name or Hub id.",
            autocompletion=among(ticket_names),
        ),
    ],
    op: Annotated[
        str,
        typer.Option(
            help=f"Which weights are kept: {_OPERATIONS}.", autocompletion=among(OPERATIONS)
        ),
    ] = MAJORITY,
    sparsity: Annotated[
        float | None,
        typer.Option(
            help="Share of zeros, met exactly: the weights with the most votes are kept and, among "
            "equals, the largest. Every operation then gives the same mask."
        ),
    ] = None,
    allocation: Annotated[
        str,
        typer.Option(
            help="With --sparsity: first shares the weights out over the matrices as the first "
            "ticket does; uniform keeps the same share of every matrix."
        ),
    ] = "first",
    head: Annotated[
        str, typer.Option(help="The masked-LM head: first, that of the first ticket; or none.")
    ] = "first",
    output_dir: Annotated[
        Path | None, typer.Option(help="The ticket's folder; by default one under runs/.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the tickets' base model is, if elsewhere.")
    ] = None,
    encoding: EncodingOption = None,
    token: TokenOption = None,
) -> None:
    """Make a ticket of several tickets of one model, by their votes on every weight.

    No search is run, and no loss is taken: compare and evaluate measure it like any other ticket.
    """
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.combining import show_combination
    from tamtctl.pruning.combining.api import combine as combine_tickets

    with watched(output, f"combining {len(tickets)} tickets"):
        result = combine_tickets(
            tickets,
            output_dir,
            op=op,
            sparsity=sparsity,
            allocation=allocation,
            head=head,
            model=model,
            encoding=encoding or "bits",
            token=token,
        )
    show_combination(output, result)
    output.result(result.to_dict(), str(result.ticket))
