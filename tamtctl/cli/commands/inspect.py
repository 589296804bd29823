"""``tamtctl inspect``: look into tickets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.completion import among
from tamtctl.cli.options import TokenOption
from tamtctl.cli.screen import hush_hub, hush_plotting
from tamtctl.foundations.errors import TamtctlError
from tamtctl.foundations.paths import expanded
from tamtctl.ticket.local_names import ticket_names

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def inspect(
    output: Output,
    tickets: Annotated[
        list[str],
        typer.Argument(
            metavar="TICKET",
            help="One or more tickets: folder, packaged name or Hub id org/name[@revision].",
            autocompletion=among(ticket_names),
        ),
    ],
    figure: Annotated[
        Path | None,
        typer.Option(
            help="Also draw sparsity, flips and overlap by layer and matrix: FILE.png or .svg."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Show every matrix and every check.")
    ] = False,
    token: TokenOption = None,
) -> None:
    """Look into tickets: where they come from, what they keep, whether they are intact, how alike.

    A flip is a weight in which a mask differs from the magnitude mask that keeps as many weights.
    Similarity is that of the paper: taken per matrix, then averaged. Beside it stands that of two
    random masks of the same sparsity.
    """
    if any("/" in name and not os.path.isdir(name) for name in tickets):  # noqa: PTH112
        hush_hub(output)
    from tamtctl.ticket import inspection as inspecting

    if figure:
        from tamtctl.ticket import heat_map

        figure = expanded(figure)
        heat_map.check_figure(figure)
    if len(tickets) > 1:
        from tamtctl.cli.views.similarity import show_comparison

        comparison = inspecting.compare_masks(tickets, token=token)
        show_comparison(output, comparison, full=full)
        result = comparison.to_dict()
        essence = "\n".join(f"{one.average.jaccard:.6f}" for one in comparison.similarities)
        drawn, similar, flips = comparison.tickets, comparison.similarities, comparison.flips
    else:
        from tamtctl.cli.views.inspection import show_inspection

        inspection = inspecting.inspect_ticket(tickets[0], token=token)
        show_inspection(output, inspection, name=tickets[0], full=full)
        result = inspection.to_dict()
        essence = "valid" if inspection.is_valid else "invalid"
        drawn, similar = [inspection.ticket] if inspection.ticket else [], []
        flips = [inspection.flips] if inspection.flips else []
    output.result(result, essence)
    if figure and drawn:
        hush_plotting()
        heat_map.save_heat_map(figure, tickets, drawn, similar, flips)
        output.line(f"figure  {figure}")
    if not drawn:
        raise TamtctlError(f"ticket {str(inspection.path)!r}: {inspection.problem}")
