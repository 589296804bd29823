"""``tamtctl import``: make a ticket of what another tool left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.options import BaseModelOption, EncodingOption
from tamtctl.cli.screen import hush_hub, hush_libraries, watched

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def import_masks(
    output: Output,
    source: Annotated[
        Path,
        typer.Argument(
            help="mask.pt, a pruned checkpoint (.bin, .pt, .safetensors or folder), or a ticket."
        ),
    ],
    output_dir: Annotated[Path, typer.Option(help="The ticket's folder.")],
    model: Annotated[
        str | None, typer.Option(help="Pre-trained model of the masks: Hub id, folder, or nano.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the model on the Hub.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="Name of the method that made the masks, for the ticket.")
    ] = "imported",
    prefix: Annotated[
        str | None,
        typer.Option(help="First part of the encoder's parameter names, if a file holds several."),
    ] = None,
    base_model: BaseModelOption = None,
    encoding: EncodingOption = None,
) -> None:
    """Make a ticket of another tool's masks or zeros, or write a ticket in another encoding."""
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.exchange import show_import
    from tamtctl.ticket.importing import import_ticket

    with watched(output, f"importing {source}"):
        result = import_ticket(
            source,
            output_dir,
            model=model,
            revision=revision,
            method=method,
            prefix=prefix,
            base_model=base_model,
            encoding=encoding or "bits",
        )
    show_import(output, result)
    output.result(result.to_dict(), str(result.ticket))
