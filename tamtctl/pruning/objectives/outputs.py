"""The model outputs that terms of an objective get, and the targets that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamtctl.data.batch import Batch


@dataclass(frozen=True)
class Outputs:
    """Outputs of the masked and the dense model for a batch of B rows of T positions.

    Attributes:
        logits: At the n masked positions alone, shape (n, V); None unless a term needs the head.
        states: Hidden states of layers 1 to L, each of shape (B, T, H); empty unless needed.
        teacher: Hidden states of the dense model, without gradient; empty unless needed.
        embeddings: Sentence embeddings of the rows, shape (B, D); None unless a term needs them.
        teacher_embeddings: Sentence embeddings of the dense model, without gradient; None unless
            needed.
        others: Sentence embeddings of the masked and of the dense model for the other rows of the
            same training step, which are not in this batch: each of shape (n, D), without gradient;
            None if there are none.
    """

    logits: Tensor | None
    states: Sequence[Tensor]
    teacher: Sequence[Tensor]
    embeddings: Tensor | None = None
    teacher_embeddings: Tensor | None = None
    others: tuple[Tensor, Tensor] | None = None


def masked_tokens(batch: Batch) -> Tensor:
    """Return the row of each masked token, shape (n,)."""
    return batch.masked // batch.input_ids.shape[1]


def all_tokens(batch: Batch) -> Tensor:
    """Return the row of each token that is no padding, shape (m,)."""
    rows, length = batch.input_ids.shape
    every = torch.arange(rows, device=batch.input_ids.device).repeat_interleave(length)  # (B * T,)
    return batch.at_tokens(every)


def all_rows(batch: Batch) -> Tensor:
    """Return each row, shape (B,)."""
    return torch.arange(len(batch.input_ids), device=batch.input_ids.device)


def at_least_float32(values: Tensor) -> Tensor:
    """Return values in float32 at least: a loss needs more digits than bfloat16 has."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
