"""``tamtctl list``: list the tickets at hand, or those on the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.options import TokenOption
from tamtctl.cli.screen import hush_hub

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def list_tickets(
    output: Output,
    sort: Annotated[
        str,
        typer.Option(
            help="date (the newest first), name, loss (the lowest first, within each model and "
            "unit), sparsity (the lowest first) or size (the largest first)."
        ),
    ] = "date",
    on_hub: Annotated[
        bool, typer.Option("--hub", help="List the tickets published on the Hub instead.")
    ] = False,
    token: TokenOption = None,
) -> None:
    """List the tickets at hand: packaged ones, those under runs/ and those pulled.

    The loss is the one that each ticket records, on the text and in the unit of its search.
    """
    if on_hub:
        hush_hub(output)
        from tamtctl.cli.views.exchange import show_published
        from tamtctl.ticket.hub.catalogue import published_tickets

        published = published_tickets(token=token)
        show_published(output, published)
        values = {"tickets": [one.to_dict() for one in published]}
        names = [one.repo for one in published]
    else:
        from tamtctl.cli.views.listing import show_listing
        from tamtctl.ticket import listing

        found = listing.list_tickets(sort)
        show_listing(output, found)
        values, names = found.to_dict(), [one.name for one in found.tickets]
    output.result(values, "\n".join(names))
