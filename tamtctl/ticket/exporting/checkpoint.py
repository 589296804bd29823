"""Exporting a ticket as a plain checkpoint whose pruned weights are zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.folders import replacing
from tamtctl.foundations.paths import expanded
from tamtctl.models.files import ModelFiles
from tamtctl.models.heads import HEADS, MASKED_LM, HeadedModel
from tamtctl.models.pipeline_files import CROSS, HEAD_SETTINGS
from tamtctl.models.sources import model_folder
from tamtctl.ticket.exporting.card import write_card
from tamtctl.ticket.exporting.pruned_model import PrunedModel
from tamtctl.ticket.exporting.reloading import check_reloaded
from tamtctl.ticket.exporting.result import ExportResult
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.ticket import Ticket
from tamtctl.ticket.trained_on import write_record

# Files of weights are not named as left out, as the checkpoint has the weights.
_WEIGHTS = (".safetensors", ".bin", ".h5", ".msgpack", ".ot", ".index.json")


def write_checkpoint(
    ticket: Path | str,
    output_dir: Path | str,
    *,
    head: str | None = None,
    model: Path | str | None = None,
    trained_head: bool = False,
    weights: Mapping[str, Tensor] | None = None,
    is_plain: bool = False,
    trim_to: str | Sequence[str] | None = None,
    is_for_graph: bool = False,
) -> ExportResult:
    """Write a checkpoint of the base model with zeros, or without neurons, where the ticket prunes.

    Args:
        ticket: A ticket: its folder, packaged name or Hub id.
        output_dir: The checkpoint's folder; new or empty.
        head: As in `tamtctl.export`.
        model: As in `tamtctl.export`.
        trained_head: As in `tamtctl.export`.
        weights: Name in the base encoder → weight that was trained after pruning, to be written
            instead of the base model's; zero where the ticket prunes.
        is_plain: Leave out the files of sentence-transformers.
        trim_to: A corpus, or several; tokens that it does not use are left out.
        is_for_graph: The checkpoint is only read to write an ONNX graph.

    Raises:
        UsageError: There is no such head.
        TicketError: The ticket is missing, not valid, or not of this model; its trained head or
            the trained weights are of another model; or the output folder is not empty.
        ModelError: The base model cannot be loaded, its files are damaged, it lacks the masked-LM
            head that is asked for, or its vocabulary cannot be trimmed.
        CorpusError: The corpus cannot be read.
    """
    if head is not None:
        one_of("head", head, tuple(HEADS))
    loaded = Ticket.load(resolve_ticket(ticket).path)
    trained = _trained_head(loaded, head) if trained_head else None
    name, revision = loaded.find_base(model)
    with replacing(output_dir) as new:  # raises before any work if it is not free
        pruned = PrunedModel.of(
            _load(name, revision, head, trained is not None), name, revision, loaded,
            head=trained, weights=weights, needs_masks=bool(trim_to), is_plain=is_plain,
        )  # fmt: skip
        if trim_to:
            pruned.trim(trim_to)
        if not is_for_graph:
            pruned.note_zeros()
        expected = pruned.outputs()
        pruned.slice()
        pruned.write(new)
        is_trained = weights is not None or trained is not None
        write_card(pruned.ticket, name, revision, new, is_trained=is_trained)
        write_record(loaded, new)
        check_reloaded(pruned.base, pruned.tokenizer, expected, new)
        files = {str(file.relative_to(new)) for file in new.rglob("*") if file.is_file()}
        size = sum((new / file).stat().st_size for file in files)
    path, base = expanded(output_dir), pruned.base
    return ExportResult(
        path=path,
        model_class=type(pruned.network).__name__,
        head=base.head,
        head_reason=base.why,
        load=_loading(path, pruned),
        modules=pruned.pipeline.kinds,
        bytes=size,
        zeros=sum(pruned.zeros.values()),
        weights=pruned.weights,
        parameters=pruned.parameters,
        new=tuple(sorted(pruned.new)),
        skipped=pruned.applied.skipped,
        unused=tuple(sorted(base.unused)),
        left_out=_left_out(name, files),
        notes=tuple(pruned.notes),
        vocabulary=pruned.vocabulary,
        checked="outputs" if expected.embeddings is None else "outputs and sentence embeddings",
    )


def _load(name: str, revision: str | None, head: str | None, is_trained: bool) -> HeadedModel:
    if head is not None:
        return HeadedModel.with_head(head, "as asked for", name, revision)
    if is_trained:
        return HeadedModel.with_head(MASKED_LM, "the ticket's trained one", name, revision)
    return HeadedModel.as_it_is(name, revision)


def _trained_head(ticket: Ticket, head: str | None) -> Mapping[str, Tensor]:
    if ticket.mlm_head is None:
        raise TicketError("the ticket holds no trained masked-LM head; leave --trained-head out")
    if head not in (None, MASKED_LM):
        raise TicketError(f"--trained-head goes with --head masked-lm, not with --head {head}")
    return ticket.mlm_head


def _loading(path: Path, pruned: PrunedModel) -> str:
    """Return a line of Python that loads the folder with the right class."""
    base, loader = pruned.base, pruned.pipeline.loader
    if loader:
        return f"{loader}({str(path)!r})"
    is_own = base.head == "sequence-classification" and not base.missing
    if is_own and hasattr(base.network.config, HEAD_SETTINGS):
        return f"{CROSS}({str(path)!r})"
    return f"{HEADS[base.head].__name__}.from_pretrained({str(path)!r})"


def _left_out(name: str, written: set[str]) -> tuple[str, ...]:
    """Return the entries of a base model's folder that the checkpoint lacks, without weights."""
    folder = ModelFiles.of(name).folder
    if folder is None or name == "nano":
        return ()
    encoder = model_folder(name)  # a subfolder in older models of sentence-transformers
    kept = {Path(file).parts[0] for file in written} | {"" if encoder is None else encoder.name}
    others = (file.name for file in folder.iterdir() if file.name not in kept)
    return tuple(sorted(n for n in others if not n.startswith(".") and not n.endswith(_WEIGHTS)))
