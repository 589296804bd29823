"""``tamtctl inspect``, ``export``, ``import``, ``list`` and ``env``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.completion import among
from tamtctl.cli.options import BaseModelOption, EncodingOption, TokenOption
from tamtctl.cli.screen import hush_hub, hush_libraries, hush_plotting, watched
from tamtctl.foundations.errors import TamtctlError
from tamtctl.foundations.paths import expanded
from tamtctl.models.archives import USUAL_LIMIT
from tamtctl.ticket.exporting import api as exporting
from tamtctl.ticket.exporting.api import FORMATS, FP32
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
    if figure and drawn:
        hush_plotting()
        heat_map.save_heat_map(figure, tickets, drawn, similar, flips)
        output.line(f"figure  {figure}")
    output.result(result, essence)
    if not drawn:
        raise TamtctlError(f"ticket {str(inspection.path)!r}: {inspection.problem}")


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


@command()
def unpack(
    output: Output,
    archive: Annotated[Path, typer.Argument(help="What export --compress wrote: FILE.tar.zst.")],
    output_dir: Annotated[Path, typer.Option(help="The model's folder; new or empty.")],
    limit: Annotated[
        float, typer.Option(help="Refuse archives that unpack to more gigabytes than this.")
    ] = USUAL_LIMIT,
) -> None:
    """Unpack what export --compress wrote: only plain files, and only inside the new folder."""
    from tamtctl.cli.views.exchange import show_unpacked
    from tamtctl.models import archives

    result = archives.unpack(archive, output_dir, limit=limit)
    show_unpacked(output, result)
    output.result(result.to_dict(), str(result.path))


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


@command()
def env(output: Output) -> None:
    """Print what a bug report needs: versions, device, threads, caches."""
    from tamtctl.foundations import environment

    facts = environment.env()
    output.facts({name: str(value) for name, value in facts.items()})
    output.result(facts, facts["tamtctl"])
