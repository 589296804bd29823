"""How pushing, pulling, exporting and importing a ticket look on a screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tamtctl.cli.console import Page, PlainTable
from tamtctl.cli.views.words import typed
from tamtctl.foundations import printable
from tamtctl.foundations.counts import count
from tamtctl.foundations.folders import size
from tamtctl.ticket.exporting.api import FP32

if TYPE_CHECKING:
    from tamtctl.models.archives import Archive, Unpacked
    from tamtctl.models.semi_structured import SemiStructured
    from tamtctl.ticket.exporting.onnx_graph import OnnxExport
    from tamtctl.ticket.exporting.result import ExportResult
    from tamtctl.ticket.hub.catalogue import PublishedTicket
    from tamtctl.ticket.hub.pulling import PullResult
    from tamtctl.ticket.importing import ImportResult
    from tamtctl.ticket.sharing import PushResult


def show_push(output: Page, result: PushResult) -> None:
    """Print what was or would be published, and what to type next."""
    _show_files(output, result.files)
    for note in result.notes:
        output.notes.line(f"note    {note}")
    if result.dry_run:
        output.line(f"would be pushed to {result.url}; nothing was sent")
        return
    output.line(f"{'pushed ' if result.changed else 'unchanged, no new commit'} {result.url}")
    output.hint(f"next    {result.pull_command}")


def show_pull(output: Page, result: PullResult) -> None:
    """Print what was or would be fetched, and what to type next."""
    _show_files(output, result.files)
    if result.dry_run:
        output.line(f"would be pulled at {result.commit}; nothing was fetched")
        return
    if result.from_cache:
        output.hint("The Hub cannot be reached; this is the copy fetched earlier.")
    output.line(f"commit  {result.commit}")
    output.line(f"ticket  {result.path} (verified)")
    output.hint(f"next    tamtctl inspect {typed(result.path)}")


def show_export(output: Page, result: ExportResult) -> None:
    """Print what was written, how to load it, and what not to expect of it."""
    share = result.zeros / max(result.weights, 1)  # 0 weights: only a pooler is masked
    of_all = result.zeros / result.parameters
    kept = f" with {', '.join(result.modules)}" if result.modules else ""
    output.facts(
        {
            "checkpoint": f"{result.path} ({result.model_class}{kept}, {size(result.bytes)})",
            "head": f"{result.head}: {result.head_reason}",
            "zeros": f"{result.zeros:,} of {result.weights:,} weights in the masked matrices "
            f"({share:.1%}; {of_all:.1%} of all)"
            if result.zeros
            else f"none among {result.parameters:,} parameters",
        }
    )
    if result.skipped:
        output.line(f"not in this class: {', '.join(result.skipped)}")
    if result.unused:
        output.line(f"without the base model's {printable.first(result.unused)}")
    if result.new:
        output.line(f"random until trained: {', '.join(result.new)}")
    if result.left_out:
        output.line(f"not copied: {printable.first(result.left_out)}")
    for line in result.notes:
        output.notes.line(line)
    again = f"It was loaded again and gives the same {result.checked}"
    if result.zeros:
        output.line(
            f"{again}. Zeros are stored like other numbers: spread over a matrix, they do not by "
            "themselves make a model smaller or faster."
        )
    else:
        output.line(f"{again} as the masked model.")
    _show_archive(output, result.archive)
    output.line(f"load  {result.load}")


def show_onnx_export(output: Page, result: OnnxExport) -> None:
    """Print what was written, how far its outputs are from those in torch, and how to load it."""
    kept = f" with {', '.join(result.modules)}" if result.modules else ""
    weights = result.precision
    if result.quantised:
        weights += f", {count(result.quantised, 'product')} with a matrix of weights quantised"
    output.facts(
        {
            "graph": f"{result.path / result.file} ({result.model_class}{kept})",
            "folder": f"{result.path} ({size(result.bytes)})",
            "weights": weights,
            "takes": ", ".join(result.inputs),
            "gives": ", ".join(result.outputs),
        }
    )
    for line in result.notes:
        output.notes.line(line)
    if result.precision == FP32:
        output.line(
            f"ONNX Runtime gives what torch gives, to {result.relative_difference:.2g} of the "
            f"outputs (root mean square), {result.largest_difference:.2g} of the largest at most."
        )
    else:
        output.line(
            f"On random tokens its outputs differ from torch's by {result.relative_difference:.1%} "
            f"(root mean square), and by {result.largest_difference:.0%} of the largest at most. "
            "evaluate and bench --task measure what that costs on a task."
        )
    _show_archive(output, result.archive)
    output.line(f"load  {result.load}")
    output.hint(f"next  tamtctl bench {typed(result.path)}")


def _show_archive(output: Page, archive: Archive | None) -> None:
    if archive is not None:
        output.line(f"compressed  {archive.path} ({size(archive.bytes)})")
        output.hint(f"            tamtctl unpack {typed(archive.path)} --output-dir FOLDER")


def show_unpacked(output: Page, result: Unpacked) -> None:
    """Print what was unpacked."""
    output.line(
        f"{count(result.files, 'file')} of {size(result.bytes)} in all, from "
        f"{size(result.archive_bytes)} compressed"
    )
    output.line(f"folder  {result.path}")


def show_semi_structured(output: Page, result: SemiStructured) -> None:
    """Print what was converted, and what stays dense."""
    matrices = count(len(result.converted), "matrix", "matrices")
    output.line(f"{matrices} of {result.weights:,} weights are semi-structured")
    for name, why in result.dense.items():
        output.line(f"dense  {name}: {why}")


def show_import(output: Page, result: ImportResult) -> None:
    """Print what was read, and what to type next."""
    output.facts(
        {
            "read": result.kind + (f" ({result.file})" if result.file else ""),
            "mask": f"sparsity {result.sparsity:.4f} in "
            + count(result.matrices, "matrix", "matrices"),
            "encoding": f"{result.encoding}, {size(result.bytes)}",
        }
    )
    if result.dense:
        shown = ", ".join(result.dense[:3]) + (" …" if len(result.dense) > 3 else "")
        matrices = count(len(result.dense), "matrix", "matrices")
        output.line(f"not masked: {matrices} of the model ({shown})")
    if result.ignored:
        output.line(f"ignored: {count(result.ignored, 'tensor')} of no maskable matrix")
    for prefix in result.other_prefixes:
        chosen = result.prefix or "no prefix"
        output.line(f"not read: the copy under {prefix or 'no prefix'} (read: {chosen})")
    if result.not_read:
        output.line(f"not read: {', '.join(result.not_read)}; transformers loads {result.file}")
    for line in filter(None, (result.remark, result.base_model)):
        output.notes.line(line)
    output.line(f"ticket  {result.ticket}")
    output.hint(f"next    tamtctl inspect {typed(result.ticket)}")


def show_published(output: Page, tickets: list[PublishedTicket]) -> None:
    """Print a listing of the Hub."""
    table = PlainTable("ticket", "base model", "updated")
    for column in ("downloads", "likes"):
        table.add_column(column, justify="right")
    for ticket in tickets:
        row = [ticket.repo, ticket.base_model, ticket.updated]
        table.add_row(*row, str(ticket.downloads), str(ticket.likes))
    output.table(table)


def _show_files(output: Page, files: Mapping[str, int]) -> None:
    for name, bytes_ in files.items():
        output.line(f"{size(bytes_):>10}  {name}")
