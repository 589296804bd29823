"""``tamtctl export``: write the model that a ticket leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.completion import among
from tamtctl.cli.options import TokenOption
from tamtctl.cli.screen import hush_hub, hush_libraries, watched
from tamtctl.ticket.exporting import api as exporting
from tamtctl.ticket.exporting.api import FORMATS, FP32
from tamtctl.ticket.local_names import ticket_names

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def export(
    output: Output,
    ticket: Annotated[
        str,
        typer.Argument(
            help="A ticket: its folder, packaged name or Hub id org/name[@revision]. For onnx also "
            "the folder of a checkpoint.",
            autocompletion=among(ticket_names),
        ),
    ],
    output_dir: Annotated[Path, typer.Option(help="The checkpoint's folder; new or empty.")],
    head: Annotated[
        str | None,
        typer.Option(
            help="masked-lm, none, sequence-classification, token-classification, "
            "question-answering or multiple-choice; by default what the base model has."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the ticket's base model is, if elsewhere.")
    ] = None,
    trained_head: Annotated[
        bool, typer.Option("--trained-head", help="Use the head that was trained with the mask.")
    ] = False,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            autocompletion=among(FORMATS),
            help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}; by default what the base model is.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, or int8 for onnx: ONNX Runtime's dynamic quantisation; how far the outputs "
            "then differ is measured."
        ),
    ] = FP32,
    trim_vocabulary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CORPUS",
            help="Leave out the tokens that this text does not use, and measure on a tenth of it "
            "what that costs. May be given several times.",
        ),
    ] = None,
    compress: Annotated[
        bool,
        typer.Option(
            "--compress",
            help="Also write the folder as one compressed file beside it, OUTPUT_DIR.tar.zst, in "
            "which zeros take almost no room; unpack reads it.",
        ),
    ] = False,
    token: TokenOption = None,
) -> None:
    """Write the base model with a ticket's zeros, or without its pruned neurons, for any tool."""
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.exchange import show_export, show_onnx_export
    from tamtctl.ticket.exporting.result import ExportResult

    with watched(output, f"exporting {ticket}"):
        result = exporting.export(
            ticket, output_dir, head=head, model=model, trained_head=trained_head,
            format=format_, precision=precision, trim_vocabulary=trim_vocabulary,
            compress=compress, token=token,
        )  # fmt: skip
    if isinstance(result, ExportResult):
        show_export(output, result)
    else:
        show_onnx_export(output, result)
    output.result(result.to_dict(), str(result.path))
