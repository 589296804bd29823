"""From a ticket to a plain transformers checkpoint whose pruned weights are zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from tamtctl.config import one_of
from tamtctl.errors import ModelError, TicketError
from tamtctl.folders import folder_size, replacing
from tamtctl.heads import head_parameters, put_head
from tamtctl.models import load_tokenizer, load_with_task_head, maskable_matrices, save_model
from tamtctl.paths import expanded
from tamtctl.sentence_embeddings import copy_pipeline
from tamtctl.ticket import Ticket, resolve_ticket

HEADS = {
    "masked-lm": AutoModelForMaskedLM,
    "none": AutoModel,
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "multiple-choice": AutoModelForMultipleChoice,
}
_TOLERANCE = 1e-5  # of logits before and after; they differ by the order of additions at most


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        path: The checkpoint's folder.
        model_class: The class of transformers that loads it.
        bytes: Size of its files.
        zeros: Number of pruned weights.
        weights: Number of weights in the masked matrices.
        new: Parameters that the base model lacks and that are random until they are trained.
        skipped: Matrices of the ticket that this class does not have.
    """

    path: Path
    model_class: str
    bytes: int
    zeros: int
    weights: int
    new: tuple[str, ...]
    skipped: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"path": str(self.path), "new": list(self.new)}


def export(
    ticket: Path | str,
    output_dir: Path | str,
    *,
    head: str = "masked-lm",
    model: Path | str | None = None,
    trained_head: bool = False,
    token: str | None = None,
) -> ExportResult:
    """Write a checkpoint that ``from_pretrained`` loads, with zeros where the ticket prunes.

    A masked-LM decoder stays dense, as in training. The checkpoint is as large as the dense one,
    and zeros spread over a matrix do not by themselves make it faster.

    Args:
        ticket: A folder or the name of a ticket.
        output_dir: The checkpoint's folder; new or empty.
        head: One of `HEADS`; what the base model lacks of it is random.
        model: Where the ticket's base model is, if not where the ticket says; folder or Hub id.
        trained_head: Use the masked-LM head that was trained with the mask.
        token: For a private ticket on the Hub.

    Raises:
        UsageError: No such head.
        TicketError: The ticket is missing, not valid, or not of this model; its trained head is
            none of this model; or the folder is not empty.
        ModelError: The base model cannot be loaded, or lacks a masked-LM head.
    """
    one_of("head", head, tuple(HEADS))
    loaded = Ticket.load(resolve_ticket(ticket, token=token).path)
    trained = _trained_head(loaded, head) if trained_head else None
    name, revision = (str(model), None) if model else loaded.find_base()
    with replacing(output_dir) as new:  # fails now if it is not free
        network, missing = load_with_task_head(HEADS[head], name, revision=revision)
        if head == "masked-lm" and missing:
            raise ModelError(
                f"model {name!r} has no masked-LM head (it lacks {min(missing)}); "
                f"export it with --head none"
            )
        network.eval()
        if trained is not None:  # before a tied bias gets a copy of its own
            put_head(trained, head_parameters(network), network)
        applied = loaded.apply(network)
        # A random pooler is no part of the encoder; a random head is there to be trained.
        left_out = missing if head == "none" else set()
        state = {n: t for n, t in network.state_dict().items() if n not in left_out}
        save_model(network, load_tokenizer(name, revision), new, state)
        copy_pipeline(name, revision, new)
        _check_reloaded(network, new, head)
        size = folder_size(new)
    matrices = maskable_matrices(network)
    return ExportResult(
        path=expanded(output_dir),
        model_class=type(network).__name__,
        bytes=size,
        zeros=sum(loaded.parameters[n].numel - loaded.parameters[n].kept for n in applied.applied),
        weights=sum(matrices[n].numel() for n in applied.applied),
        new=tuple(sorted(missing - left_out)),
        skipped=applied.skipped,
    )


def _trained_head(ticket: Ticket, head: str) -> Mapping[str, Tensor]:
    if ticket.mlm_head is None:
        raise TicketError("the ticket holds no trained masked-LM head; leave --trained-head out")
    if head != "masked-lm":
        raise TicketError(f"--trained-head goes with --head masked-lm, not with --head {head}")
    return ticket.mlm_head


def _check_reloaded(network: PreTrainedModel, folder: Path, head: str) -> None:
    """Compare what the network says with what it says when loaded from the folder."""
    again, missing = load_with_task_head(HEADS[head], str(folder))
    ids = torch.arange(8).view(2, 4) % network.config.vocab_size  # (2, 4)
    inputs = ids.unsqueeze(0) if head == "multiple-choice" else ids
    with torch.no_grad():
        before, after = network(input_ids=inputs)[0], again.eval()(input_ids=inputs)[0]
    if not torch.allclose(before, after, rtol=0, atol=_TOLERANCE):
        raise ModelError(
            f"transformers does not load {type(network).__name__} as it was saved "
            f"({len(missing)} parameters are lost); export it with another --head"
        )
