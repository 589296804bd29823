"""Exporting a ticket as a plain checkpoint whose pruned weights are zero."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.folders import replacing
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.shown import Shown
from tamtctl.models.archives import Archive
from tamtctl.models.encoder import embedding_names, maskable_matrices
from tamtctl.models.files import CONFIG_FILE, ModelFiles
from tamtctl.models.heads import HEADS as HEADS
from tamtctl.models.heads import MASKED_LM, NONE, HeadedModel
from tamtctl.models.loading import (
    forget_code,
    load_config,
    load_tokenizer,
    save_model,
)
from tamtctl.models.pipeline_files import CROSS, HEAD_SETTINGS, PipelineFiles
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.models.sources import model_folder
from tamtctl.models.vocabulary_files import copy_vocabulary
from tamtctl.ticket.applying import Applied, untie_decoder
from tamtctl.ticket.export_card import write_card
from tamtctl.ticket.format.patterns import (
    is_cut_from_graphs,
    is_for_sparse_kernels,
    is_sliced,
)
from tamtctl.ticket.heads import head_parameters, put_head
from tamtctl.ticket.reloading import Outputs, check_reloaded
from tamtctl.ticket.shelf import resolve_ticket
from tamtctl.ticket.slicing import slice_neurons
from tamtctl.ticket.ticket import Ticket
from tamtctl.ticket.trained_weights import put_weights
from tamtctl.ticket.trimmed_vocabulary import TrimmedVocabulary, trim_vocabulary

# Files of weights are not named as left out, as the checkpoint has the weights.
_WEIGHTS = (".safetensors", ".bin", ".h5", ".msgpack", ".ot", ".index.json")
# Of a ticket whose pruned structures no configuration can leave out.
_AS_ZEROS = (
    "what is pruned is in it as zeros, and it is as large and as slow as before: a configuration "
    "of transformers says one number of heads for all layers, and ties it to the width; "
    "--format onnx leaves out what is pruned"
)
# Of a ticket whose zeros a GPU can skip.
_FOR_SPARSE_KERNELS = (
    "on a CUDA GPU with sparse tensor cores, tamtctl.semi_structured(model) converts the zeros of "
    "the loaded model, in half precision, into tensors whose zeros are skipped"
)


@dataclass(frozen=True, repr=False)
class ExportResult(Shown):
    """The result of an export.

    Attributes:
        path: The checkpoint's folder.
        model_class: The class of transformers that loads it.
        head: One of `HEADS`.
        head_reason: A phrase on why it is this head.
        load: A line of Python that loads the folder.
        modules: The modules of sentence-transformers that it keeps; empty for other models.
        bytes: Size of its files.
        zeros: Number of pruned weights in the checkpoint.
        weights: Number of weights in its masked matrices.
        parameters: Number of all its weights.
        new: Names of parameters that the base model lacks and that are random.
        skipped: Matrices of the ticket that the class lacks.
        unused: Tensors of the base model that the class lacks.
        left_out: Files of the base model's folder that were not copied.
        notes: Notes on the checkpoint, a line each.
        checked: What was compared after loading it again: its outputs, and embeddings if any.
        vocabulary: The result of trimming the vocabulary; None if it is whole.
        archive: The folder as one compressed file, if that was asked for.
    """

    path: Path
    model_class: str
    head: str
    head_reason: str
    load: str
    modules: tuple[str, ...]
    bytes: int
    zeros: int
    weights: int
    parameters: int
    new: tuple[str, ...]
    skipped: tuple[str, ...]
    unused: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    checked: str
    vocabulary: TrimmedVocabulary | None = None
    archive: Archive | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}
        if self.vocabulary is None:  # a field only where trimming was asked for
            del values["vocabulary"]
        del values["archive"]
        packed = {} if self.archive is None else {"archive": self.archive.to_dict()}
        return values | {"path": str(self.path)} | packed


def export(
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
    token: str | None = None,
) -> ExportResult:
    """Write a checkpoint of the base model with zeros where the ticket prunes.

    For a ticket of whole neurons, the pruned ones are cut out and the checkpoint is smaller. For
    any other ticket, also one of whole attention heads, it is as large as the dense one, and zeros
    spread over a matrix do not by themselves make it faster. A sentence encoder keeps its pooling
    and all else that sentence-transformers reads, a classifier its head. A masked-LM decoder stays
    dense, as in training.

    Args:
        ticket: A ticket: its folder, packaged name or Hub id.
        output_dir: The checkpoint's folder; new or empty.
        head: One of `HEADS`; parameters that the base model lacks are random. None: the head that
            the base model has complete, or none.
        model: Folder or Hub id of the ticket's base model, if not where the ticket says.
        trained_head: Use the masked-LM head that was trained with the mask.
        weights: Name in the base encoder → weight that was trained after pruning, to be written
            instead of the base model's; zero where the ticket prunes.
        is_plain: Leave out the files of sentence-transformers.
        trim_to: A corpus, or several; tokens that it does not use are left out.
        is_for_graph: The checkpoint is only read to write an ONNX graph.
        token: For a private ticket on the Hub.

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
    loaded = Ticket.load(resolve_ticket(ticket, token=token).path)
    trained = _trained_head(loaded, head) if trained_head else None
    name, revision = loaded.find_base(model)
    with replacing(output_dir) as new:  # raises before any work if it is not free
        base = _load(name, revision, head, trained is not None)
        network = base.network.eval()
        loaded, applied = _prune(loaded, network, trained, weights, needs_masks=bool(trim_to))
        tokenizer = load_tokenizer(name, revision)
        pipeline = PipelineFiles() if is_plain else PipelineFiles.of(name, revision)
        pipeline = pipeline.for_head(base.head)
        notes = [pipeline.left_out] if pipeline.left_out else []
        if forget_code(network, tokenizer):
            notes.append("the base model's own Python code (auto_map) is left out")
        zeros = {n: loaded.parameters[n].numel - loaded.parameters[n].kept for n in applied.applied}
        vocabulary = None
        if trim_to:
            trimmed, vocabulary = trim_vocabulary(network, tokenizer, trim_to)
            tokenizer = trimmed.tokenizer
            notes.append(vocabulary.note)
            pipeline = pipeline.with_vocabulary(vocabulary.kept)
            for table in zeros.keys() & embedding_names(network):
                zeros[table] = int((~loaded.masks[table][list(trimmed.kept)]).sum())
        notes += [] if is_for_graph else _on_zeros(loaded.pattern)
        # A random pooler is left out; a random head is written, as it will be trained.
        left_out = base.missing if base.head == NONE else frozenset[str]()
        embeddings = SentencePipeline.known(name, revision) if pipeline.loader else None
        # Using a tokenizer changes what it saves.
        expected = Outputs.of(base.head, network, copy.deepcopy(tokenizer), embeddings)
        if is_sliced(loaded.pattern):
            notes.append(slice_neurons(network, loaded.masks).note)
            zeros = {}
        state = {n: t for n, t in network.state_dict().items() if n not in left_out}
        _save(new, network, tokenizer, state, load_config(name, revision))
        if vocabulary is None:
            copy_vocabulary(name, revision, tokenizer, new)
        pipeline.write(new)
        is_trained = weights is not None or trained is not None
        write_card(loaded, name, revision, new, is_trained=is_trained)
        check_reloaded(base, tokenizer, expected, new)
        files = {str(file.relative_to(new)) for file in new.rglob("*") if file.is_file()}
        size = sum((new / file).stat().st_size for file in files)
    matrices = maskable_matrices(network)
    path = expanded(output_dir)
    return ExportResult(
        path=path,
        model_class=type(network).__name__,
        head=base.head,
        head_reason=base.why,
        load=_loading(path, pipeline, base),
        modules=pipeline.kinds,
        bytes=size,
        zeros=sum(zeros.values()),
        weights=sum(matrices[n].numel() for n in applied.applied),
        parameters=sum({_place(t): t.numel() for t in state.values()}.values()),
        new=tuple(sorted(base.missing - left_out)),
        skipped=applied.skipped,
        unused=tuple(sorted(base.unused)),
        left_out=_left_out(name, files),
        notes=tuple(notes),
        vocabulary=vocabulary,
        checked="outputs" if expected.embeddings is None else "outputs and sentence embeddings",
    )


def _load(name: str, revision: str | None, head: str | None, is_trained: bool) -> HeadedModel:
    if head is not None:
        return HeadedModel.with_head(head, "as asked for", name, revision)
    if is_trained:
        return HeadedModel.with_head(MASKED_LM, "the ticket's trained one", name, revision)
    return HeadedModel.as_it_is(name, revision)


def _prune(
    ticket: Ticket,
    network: PreTrainedModel,
    head: Mapping[str, Tensor] | None,
    weights: Mapping[str, Tensor] | None,
    *,
    needs_masks: bool,
) -> tuple[Ticket, Applied]:
    """Put the trained head and weights into a network, and zeros where the ticket prunes.

    Returns:
        The ticket, whose masks can be decoded without the weights of the base model where they will
        be needed, and what became of its matrices.
    """
    if head is not None:  # before a tied bias gets a copy of its own
        put_head(head, head_parameters(network), network)
    if is_sliced(ticket.pattern) or needs_masks or weights is not None:
        ticket = ticket.encode("bits", maskable_matrices(network))
    applied = ticket.apply(network)
    if weights is not None:
        # The weights were trained beside the dense decoder, whatever the ticket masks.
        untie_decoder(network)
        put_weights(weights, network, ticket.masks)
    return ticket, applied


def _on_zeros(pattern: str) -> list[str]:
    """Return notes on what the zeros of a pattern are good for in a checkpoint, if anything."""
    if is_cut_from_graphs(pattern):
        return [_AS_ZEROS]
    return [_FOR_SPARSE_KERNELS] if is_for_sparse_kernels(pattern) else []


def _save(
    folder: Path,
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    state: Mapping[str, Tensor],
    config: PreTrainedConfig,
) -> None:
    """Write the checkpoint, in the base model's half precision if that loses nothing.

    Tools load a model in the precision that its configuration names.
    """
    half = getattr(config, "dtype", None)
    if half not in (torch.float16, torch.bfloat16):
        save_model(network, tokenizer, folder, state)
        return
    alone = {
        _place(t): t.to(half) if t.dtype == torch.float32 else t for t in state.values()
    }  # tied tensors stay tied
    halved = {n: alone[_place(t)] for n, t in state.items()}
    if not all(torch.equal(halved[name].to(t.dtype), t) for name, t in state.items()):
        save_model(network, tokenizer, folder, state)  # for example a new head, in float32
        return
    save_model(network, tokenizer, folder, halved)
    values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    values["dtype"] = str(half).removeprefix("torch.")  # as the loaded model is in float32
    text = json.dumps(values, indent=2, sort_keys=True)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    """Return a key that is equal only for tensors that share memory."""
    return tensor.data_ptr(), tensor.shape


def _trained_head(ticket: Ticket, head: str | None) -> Mapping[str, Tensor]:
    if ticket.mlm_head is None:
        raise TicketError("the ticket holds no trained masked-LM head; leave --trained-head out")
    if head not in (None, MASKED_LM):
        raise TicketError(f"--trained-head goes with --head masked-lm, not with --head {head}")
    return ticket.mlm_head


def _loading(path: Path, pipeline: PipelineFiles, base: HeadedModel) -> str:
    """Return a line of Python that loads the folder with the right class."""
    if pipeline.loader:
        return f"{pipeline.loader}({str(path)!r})"
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
