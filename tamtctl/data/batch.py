"""A batch of rows of tokens, in the form that a model takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.data.padding import attended


@dataclass(frozen=True)
class Batch:
    """A batch of B rows of T tokens; clean text has no targets.

    Attributes:
        input_ids: Shape (B, T), int64.
        masked: Flat positions ``b * T + t`` of the targets, ascending, shape (n,), int64; never
            padding.
        labels: The true token ids at these positions, shape (n,), int64.
        attention_mask: 1 at tokens and 0 at the padding after them, shape (B, T), int64. None:
            there is no padding.
        attended: Flat positions of the tokens, without padding, ascending, shape (m,), int64. It
            follows from the mask, and is computed once on the CPU so that a GPU is never waited
            for.
    """

    input_ids: Tensor
    masked: Tensor
    labels: Tensor
    attention_mask: Tensor | None = None
    attended: Tensor | None = None

    def __post_init__(self) -> None:
        if self.attention_mask is not None and self.attended is None:
            attended = self.attention_mask.flatten().nonzero().squeeze(1)
            object.__setattr__(self, "attended", attended)

    def padded_behind(self, lengths: NDArray[np.int64]) -> Batch:
        """Return the batch with the end of each row marked as padding.

        Args:
            lengths: Number of tokens in each row, shape (B,).
        """
        mask = torch.from_numpy(attended(lengths).astype(np.int64))  # (B, T)
        return replace(self, attention_mask=mask)

    @property
    def tokens(self) -> int:
        """Number of tokens, without padding."""
        return self.input_ids.numel() if self.attended is None else len(self.attended)

    def at_tokens(self, values: Tensor) -> Tensor:
        """Return the values at tokens, (m, …), of values at all positions, (B * T, …)."""
        return values if self.attended is None else values[self.attended]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device; pinned memory is copied asynchronously."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory, from which a GPU copies asynchronously."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            change(self.input_ids),
            change(self.masked),
            change(self.labels),
            None if self.attention_mask is None else change(self.attention_mask),
            None if self.attended is None else change(self.attended),
        )

    def split(self, rows: int) -> list[Batch]:
        """Cut into micro-batches of at most so many rows; the targets go with their rows.

        Padding beyond the longest row of a micro-batch is removed.
        """
        if rows >= len(self.input_ids):
            return [self]
        length = self.input_ids.shape[1]
        starts = range(0, len(self.input_ids), rows)
        edges = torch.tensor([*starts, len(self.input_ids)], device=self.masked.device) * length
        bounds = torch.searchsorted(self.masked, edges).tolist()
        return [
            Batch(
                self.input_ids[start : start + rows],
                self.masked[first:last] - start * length,
                self.labels[first:last],
                None if self.attention_mask is None else self.attention_mask[start : start + rows],
            )._trimmed()
            for start, (first, last) in zip(starts, itertools.pairwise(bounds), strict=True)
        ]

    def _trimmed(self) -> Batch:
        """Return the batch without the columns that are padding in every row."""
        if self.attention_mask is None:
            return self
        before, length = self.input_ids.shape[1], int(self.attention_mask.sum(1).max())
        return Batch(
            self.input_ids[:, :length],
            self.masked // before * length + self.masked % before,
            self.labels,
            self.attention_mask[:, :length],
        )


def clean(rows: NDArray[np.int64], lengths: NDArray[np.int64] | None = None) -> Batch:
    """Return rows of tokens as a batch without noise or targets, as for knowledge distillation.

    Args:
        rows: Token ids, shape (B, T).
        lengths: Number of tokens in each row, shape (B,); None: nothing is padded.
    """
    nothing = torch.empty(0, dtype=torch.int64)
    batch = Batch(torch.from_numpy(rows), masked=nothing, labels=nothing)
    return batch if lengths is None else batch.padded_behind(lengths)
