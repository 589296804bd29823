"""The function `export`: a ticket or a checkpoint in any format and precision.

Imports nothing heavy, so that a wrong request is refused at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.foundations.folders import check_target
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.torch_state import usual_torch
from tamtctl.models.archives import archive_of, pack
from tamtctl.models.files import CONFIG_FILE, MODULES, ModelFiles
from tamtctl.models.onnx.packages import TO_WRITE, check_installed
from tamtctl.ticket.local_names import METADATA_FILE
from tamtctl.training.run_folder import is_run

if TYPE_CHECKING:
    from tamtctl.ticket.exporting.onnx_graph import OnnxExport
    from tamtctl.ticket.exporting.result import ExportResult

FORMATS = TRANSFORMERS, SENTENCE_TRANSFORMERS, ONNX = (
    "transformers", "sentence-transformers", "onnx",
)  # fmt: skip
PRECISIONS = FP32, INT8 = "fp32", "int8"


@usual_torch()
def export(
    ticket: Path | str,
    output_dir: Path | str,
    *,
    head: str | None = None,
    model: Path | str | None = None,
    trained_head: bool = False,
    format: str | None = None,  # noqa: A002, as the command line calls it
    precision: str = FP32,
    trim_vocabulary: Path | str | Sequence[Path | str] | None = None,
    compress: bool = False,
    token: str | None = None,
) -> ExportResult | OnnxExport:
    """Write the base model with a ticket's zeros, as other tools load it.

    It stays the kind of model that it is: a sentence encoder keeps its pooling and all else that
    sentence-transformers reads, a classifier its head. A masked-LM decoder stays dense, as in
    training, as a matrix of its own. Zeros spread over a matrix do not by themselves make a
    checkpoint smaller or faster; only a ticket of whole neurons does. An ONNX graph is in
    ``onnx/``, where sentence-transformers looks for it, and is compared with torch after writing.
    It is also without the attention heads that contribute nothing, as those that a ticket prunes.

    Args:
        ticket: A ticket: its folder, packaged name or Hub id. For ``onnx``, also the folder of any
            checkpoint, such as a recovered or fine-tuned one.
        output_dir: The checkpoint's folder; new or empty.
        head: One of `tamtctl.models.heads.HEADS`; parameters that the base model lacks are random.
            None: the head that the base model has complete, or none.
        model: Folder or Hub id of the ticket's base model, if not where the ticket says.
        trained_head: Use the masked-LM head that was trained with the mask.
        format: One of `FORMATS`; None: that of the base model.
        precision: ``fp32``, or ``int8`` for ``onnx``: the runtime's dynamic quantisation.
        trim_vocabulary: A corpus, or several, named as for a search. Tokens that nine tenths of it
            do not use are left out, and what that costs is measured on the last tenth. Tokens
            of single characters stay, so that any text can be read.
        compress: Also write the folder as one compressed file beside it, ``OUTPUT_DIR.tar.zst``, in
            which zeros take almost no room; `tamtctl.unpack` reads it.
        token: For a private ticket on the Hub.

    Raises:
        UsageError: There is no such head, format or precision, a package is missing, or there is a
            compressed file already.
        TicketError: The ticket is missing, not valid, or not of this model; its trained head is
            of another model; or the output folder is not empty.
        ModelError: The base model cannot be loaded, its files are damaged, it lacks the masked-LM
            head that is asked for, its vocabulary cannot be trimmed, or it cannot be written in
            this format.
        CorpusError: The corpus cannot be read.

    Example:
        >>> exported = tamtctl.export("nano-0.8", "my-export")
        >>> exported.head, exported.zeros, exported.weights
        ('masked-lm', 1468005, 1835008)
    """
    if format is not None:
        one_of("format", format, FORMATS)
    one_of("precision", precision, PRECISIONS)
    if precision != FP32 and format != ONNX:
        raise UsageError(f"--precision {precision} is for --format {ONNX}")
    if format == ONNX:
        check_installed(TO_WRITE, f"--format {ONNX}")
    archive = archive_of(output_dir) if compress else None
    if is_checkpoint(ticket):
        if head or model or trained_head or trim_vocabulary:
            raise UsageError(
                f"{str(ticket)!r} is a checkpoint, with a head of its own: --head, --model, "
                "--trained-head and --trim-vocabulary are for tickets"
            )
        if format != ONNX:
            raise UsageError(
                f"{str(ticket)!r} is a checkpoint already; --format {ONNX} writes it as a graph"
            )
        done: ExportResult | OnnxExport = _as_graph(
            expanded(ticket), output_dir, str(ticket), precision
        )
    else:
        done = _of_ticket(
            ticket, output_dir, head=head, model=model, trained_head=trained_head, format=format,
            precision=precision, trim_vocabulary=_named(trim_vocabulary), token=token,
        )  # fmt: skip
    return done if archive is None else replace(done, archive=pack(done.path, archive))


def _of_ticket(
    ticket: Path | str,
    output_dir: Path | str,
    *,
    head: str | None,
    model: Path | str | None,
    trained_head: bool,
    format: str | None,  # noqa: A002, as in `export`
    precision: str,
    trim_vocabulary: Sequence[str] | None,
    token: str | None,
) -> ExportResult | OnnxExport:
    """Write the base model with the zeros of a ticket; all arguments are as in `export`."""
    from tamtctl.ticket.finding import resolve_ticket

    path = resolve_ticket(ticket, token=token).path
    if format == SENTENCE_TRANSFORMERS:
        _check_sentence_encoder(path, model)
    check_target(output_dir)
    from tamtctl.ticket.exporting.checkpoint import write_checkpoint

    if format != ONNX:
        return write_checkpoint(
            path, output_dir, head=head, model=model, trained_head=trained_head,
            is_plain=format == TRANSFORMERS, trim_to=trim_vocabulary,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as room:
        written = write_checkpoint(
            path, Path(room) / "checkpoint", head=head, model=model, trained_head=trained_head,
            trim_to=trim_vocabulary, is_for_graph=True,
        )  # fmt: skip
        if written.new:
            raise ModelError(
                f"the {written.head} head would be random, and a graph cannot be trained: "
                "fine-tune the ticket first, and export the checkpoint"
            )
        return _as_graph(written.path, output_dir, str(ticket), precision, written.notes)


def _named(corpora: Path | str | Sequence[Path | str] | None) -> list[str] | None:
    if corpora is None:
        return None
    return list(map(str, [corpora] if isinstance(corpora, Path | str) else corpora))


def is_checkpoint(name: Path | str) -> bool:
    """Return whether a name is the folder of a model, and not of a ticket or of a run."""
    folder = expanded(name)
    if not folder.is_dir() or (folder / METADATA_FILE).exists() or is_run(folder):
        return False
    return (folder / CONFIG_FILE).exists() or (folder / MODULES).exists()


def _as_graph(
    checkpoint: Path,
    output_dir: Path | str,
    source: str,
    precision: str,
    notes: tuple[str, ...] = (),
) -> OnnxExport:
    from tamtctl.ticket.exporting.onnx_graph import convert

    return convert(
        checkpoint, output_dir, source=source, is_quantised=precision == INT8, notes=notes
    )


def _check_sentence_encoder(ticket: Path, model: Path | str | None) -> None:
    """Refuse a base model without ``modules.json``, for which the library would guess a pooling."""
    from tamtctl.ticket.ticket import Ticket

    name, revision = Ticket.load(ticket).find_base(model)
    if ModelFiles.of(name, revision).modules() is None:
        raise UsageError(
            f"--format {SENTENCE_TRANSFORMERS} is for sentence encoders, and model {name!r} has no "
            f"{MODULES}; --format {TRANSFORMERS} writes what it is"
        )
