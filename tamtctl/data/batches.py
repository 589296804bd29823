"""From sequences to batches, for training and for evaluation.

Nothing here has a state: batches, order and noise follow from seed and step alone. So a run can
resume at any step, and any number of ranks together gets the same examples with the same noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol, Self, TypeVar

import numpy as np
import torch

from tamtctl.data.batch import Batch, clean
from tamtctl.data.noise import ORDER, Noise, random_numbers
from tamtctl.data.padding import IdArray
from tamtctl.data.sequences import Sequences
from tamtctl.foundations.working import counted

# Evaluation noise has a key that no training seed (below 2**63) can have.
_EVALUATION_SEED = 2**64 - 1


def training_batches(
    text: Sequences,
    batch_size: int,
    seed: int,
    *,
    noise: Noise | None,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Yield endless batches, in a new order for each epoch.

    If an epoch ends within a batch, the next epoch fills it up, so that every batch is full. A
    start step gives the same batches that a run from step 0 gets there.

    Args:
        text: The training text.
        batch_size: Sequences in the global batch, over all ranks.
        seed: Seed of order and noise, in [0, 2**63).
        noise: None for clean text.
        start_step: The first step, from 0.
        rank: Index of the wanted slice of the global batch.
        world_size: Number of slices of the global batch.

    """
    count = len(text)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> IdArray:
        return text.order(
            random_numbers(ORDER, seed, epoch), batch_size, head=-epoch * count % batch_size
        )

    for step in itertools.count(start_step):
        first = step * batch_size
        examples = np.arange(
            first + rank * batch_size // world_size,
            first + (rank + 1) * batch_size // world_size,
        )
        epochs, places = np.divmod(examples, count)
        indices = np.array(
            [
                order(epoch)[place]
                for epoch, place in zip(epochs.tolist(), places.tolist(), strict=True)
            ]
        )
        yield batch_of(text, indices, noise, seed, epochs)


def batch_of(
    text: Sequences, indices: IdArray, noise: Noise | None, seed: int, epochs: IdArray | int
) -> Batch:
    """Return some sequences of a text as a batch.

    Args:
        text: The text.
        indices: Indices of the sequences, shape (B,).
        noise: None for clean text.
        seed: The seed of the noise.
        epochs: The epoch of each sequence, shape (B,) or one for all.
    """
    lengths = None if text.lengths is None else text.lengths[indices]
    rows = text.rows(indices)
    if noise is None:
        return clean(rows, lengths)
    return noise.noised(rows, indices, seed, epochs, lengths)


class Pinnable(Protocol):
    """A batch that can be put into pinned memory."""

    def pin_memory(self) -> Self:
        """Return it in pinned memory, from which a GPU copies asynchronously."""


AnyBatch = TypeVar("AnyBatch", bound=Pinnable)


def made_ahead(batches: Iterator[AnyBatch], device: torch.device) -> Iterator[AnyBatch]:
    """Return the same batches; for a GPU another thread makes and pins the next one."""
    if device.type == "cuda":
        return prefetched(batch.pin_memory() for batch in batches)
    return batches


def prefetched(batches: Iterator[AnyBatch]) -> Iterator[AnyBatch]:
    """Yield the same batches, each made by another thread while the one before is used."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        upcoming = thread.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = thread.submit(next, batches, None)
            yield batch


def evaluation_batches(
    text: Sequences,
    batch_size: int,
    *,
    noise: Noise | None,
    limit: int | None = None,
    is_mixed: bool = False,
) -> Iterator[Batch]:
    """Yield the sequences once, always with the same noise.

    Sequence i always has the same masked tokens, whatever the batch size, the limit or the seed of
    training, so that any two tickets are evaluated on the same targets. Blocks come in the order of
    the text, rows of varying length from the longest to the shortest. The last batch may be
    smaller.

    Args:
        text: The held-out text.
        batch_size: Sequences in a batch.
        noise: None for clean text.
        limit: Most sequences to yield, spread evenly over the text; None: all.
        is_mixed: Yield them in a random order instead, which is always the same.
    """
    count = len(text) if limit is None else min(limit, len(text))
    chosen = np.arange(count) * len(text) // count
    if is_mixed:
        chosen = np.random.Generator(np.random.Philox(key=_EVALUATION_SEED)).permutation(chosen)
    elif text.lengths is not None:  # memory runs out at once or never, and little is padding
        chosen = chosen[np.argsort(-text.lengths[chosen], kind="stable")]
    starts = range(0, count, batch_size)
    for start in counted(starts, "evaluating", len(starts)):
        yield batch_of(text, chosen[start : start + batch_size], noise, _EVALUATION_SEED, epochs=0)
