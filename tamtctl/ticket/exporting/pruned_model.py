"""A base model with a ticket's zeros, and all else that its checkpoint holds, before writing."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.models.encoder import embedding_names, maskable_matrices
from tamtctl.models.files import CONFIG_FILE
from tamtctl.models.heads import NONE, HeadedModel
from tamtctl.models.loading import forget_code, load_config, load_tokenizer, save_model
from tamtctl.models.pipeline_files import PipelineFiles
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.models.vocabulary_files import copy_vocabulary
from tamtctl.ticket.applying import Applied, untie_decoder
from tamtctl.ticket.exporting.reloading import Outputs
from tamtctl.ticket.exporting.trimmed_vocabulary import TrimmedVocabulary, trim_vocabulary
from tamtctl.ticket.format.patterns import is_cut_from_graphs, is_for_sparse_kernels, is_sliced
from tamtctl.ticket.heads import head_parameters, put_head
from tamtctl.ticket.slicing import slice_neurons
from tamtctl.ticket.ticket import Ticket
from tamtctl.ticket.trained_weights import put_weights

# For a ticket whose pruned structures no configuration can leave out.
_AS_ZEROS = (
    "what is pruned is in it as zeros, and it is as large and as slow as before: a configuration "
    "of transformers says one number of heads for all layers, and ties it to the width; "
    "--format onnx leaves out what is pruned"
)
# For a ticket whose zeros a GPU can skip.
_FOR_SPARSE_KERNELS = (
    "on a CUDA GPU with sparse tensor cores, tamtctl.semi_structured(model) converts the zeros of "
    "the loaded model, in half precision, into tensors whose zeros are skipped"
)


@dataclass
class PrunedModel:
    """A base model with zeros where a ticket prunes.

    Attributes:
        name: Folder or Hub id of the base model.
        revision: Its revision.
        base: The model and its head.
        ticket: The ticket.
        applied: What became of the ticket's matrices.
        tokenizer: The tokenizer.
        pipeline: The files of sentence-transformers.
        zeros: Name → number of zeros of each masked matrix.
        notes: Notes on the checkpoint, a line each.
        vocabulary: The result of trimming the vocabulary; None if it is whole.
    """

    name: str
    revision: str | None
    base: HeadedModel
    ticket: Ticket
    applied: Applied
    tokenizer: PreTrainedTokenizerFast
    pipeline: PipelineFiles
    zeros: dict[str, int]
    notes: list[str] = field(default_factory=list)
    vocabulary: TrimmedVocabulary | None = None

    @classmethod
    def of(
        cls,
        base: HeadedModel,
        name: str,
        revision: str | None,
        ticket: Ticket,
        *,
        head: Mapping[str, Tensor] | None,
        weights: Mapping[str, Tensor] | None,
        needs_masks: bool,
        is_plain: bool,
    ) -> PrunedModel:
        """Prune a base model, in place.

        Args:
            base: The base model.
            name: Its folder or Hub id.
            revision: Its revision.
            ticket: The ticket.
            head: The masked-LM head that was trained with the mask, to be put in.
            weights: See `tamtctl.ticket.exporting.checkpoint.write_checkpoint`.
            needs_masks: Whether masks will be decoded after the pruning.
            is_plain: See `tamtctl.ticket.exporting.checkpoint.write_checkpoint`.

        Raises:
            TicketError: The ticket, the head or the weights are of another model.
            ModelError: Files of the base model are damaged.
        """
        network = base.network.eval()
        ticket, applied = _prune(ticket, network, head, weights, needs_masks=needs_masks)
        tokenizer = load_tokenizer(name, revision)
        pipeline = PipelineFiles() if is_plain else PipelineFiles.of(name, revision)
        pipeline = pipeline.for_head(base.head)
        kept = {n: ticket.parameters[n] for n in applied.applied}
        zeros = {n: entry.numel - entry.kept for n, entry in kept.items()}
        made = cls(name, revision, base, ticket, applied, tokenizer, pipeline, zeros)
        if pipeline.left_out:
            made.notes.append(pipeline.left_out)
        if applied.untied:
            made.notes.append(
                f"{' and '.join(applied.untied)}, which the base model ties to other parameters, "
                "stay dense and are stored for themselves"
            )
        if forget_code(network, tokenizer):
            made.notes.append("the base model's own Python code (auto_map) is left out")
        return made

    @property
    def network(self) -> PreTrainedModel:
        """The model with its head."""
        return self.base.network

    @property
    def new(self) -> frozenset[str]:
        """Names of parameters that the base model lacks, and that are written: a random head's."""
        return frozenset() if self.base.head == NONE else self.base.missing

    def trim(self, corpus: str | Sequence[str]) -> None:
        """Leave out the tokens that a corpus does not use.

        Raises:
            CorpusError: The corpus cannot be read.
            ModelError: The vocabulary cannot be trimmed.
        """
        trimmed, self.vocabulary, notes = trim_vocabulary(
            self.network, self.tokenizer, corpus, self._sentence_pipeline()
        )
        self.tokenizer = trimmed.tokenizer
        self.pipeline = self.pipeline.with_vocabulary(self.vocabulary.kept)
        self.notes += [self.vocabulary.note, *notes]
        for table in self.zeros.keys() & embedding_names(self.network):
            self.zeros[table] = int((~self.ticket.masks[table][list(trimmed.kept)]).sum())

    def note_zeros(self) -> None:
        """Note what the zeros of the pattern are good for in a checkpoint, if anything."""
        if is_cut_from_graphs(self.ticket.pattern):
            self.notes.append(_AS_ZEROS)
        elif is_for_sparse_kernels(self.ticket.pattern):
            self.notes.append(_FOR_SPARSE_KERNELS)

    def outputs(self) -> Outputs:
        """Return outputs that the written checkpoint must have, too."""
        # Using a tokenizer changes what it saves.
        tokenizer, pipeline = copy.deepcopy(self.tokenizer), self._sentence_pipeline()
        return Outputs.of(self.base.head, self.network, tokenizer, pipeline)

    def _sentence_pipeline(self) -> SentencePipeline | None:
        if not self.pipeline.loader:
            return None
        return SentencePipeline.known(self.name, self.revision)

    def slice(self) -> None:
        """Cut out what is pruned, if a configuration can say it.

        Raises:
            ModelError: The configuration cannot say how many neurons are left.
        """
        if is_sliced(self.ticket.pattern):
            self.notes.append(slice_neurons(self.network, self.ticket.masks).note)
            self.zeros = {}

    def write(self, folder: Path) -> None:
        """Write model, tokenizer and the files of sentence-transformers."""
        config = load_config(self.name, self.revision)
        _save(folder, self.network, self.tokenizer, self.state(), config)
        if self.vocabulary is None:
            copy_vocabulary(self.name, self.revision, self.tokenizer, folder)
        self.pipeline.write(folder)

    def state(self) -> dict[str, Tensor]:
        """Return name → tensor to be written; a random pooler is left out."""
        left_out = self.base.missing - self.new
        return {n: t for n, t in self.network.state_dict().items() if n not in left_out}

    @property
    def parameters(self) -> int:
        """Number of all weights that are written."""
        return sum({_place(t): t.numel() for t in self.state().values()}.values())

    @property
    def weights(self) -> int:
        """Number of weights in the masked matrices."""
        matrices = maskable_matrices(self.network)
        return sum(matrices[n].numel() for n in self.applied.applied)


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
