"""From sequences to batches: their order in training, and what evaluation asks.

Nothing here has a state: batch, order and noise follow from (seed, step) alone. A run can resume
at any step, and any number of ranks sees the same examples with the same noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

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
    """Yield batch after batch without end, each epoch in an order of its own.

    An epoch that ends within a batch is followed by the next one in the same batch, so that every
    batch is full. Starting at a step gives what a run from step 0 would see there.

    Args:
        text: The training text.
        batch_size: Sequences in the global batch, over all ranks.
        seed: Seed of order and noise, in [0, 2**63).
        noise: None for clean text.
        start_step: The first step, from 0.
        rank: Which slice of the global batch is wanted.
        world_size: Into how many slices the global batch is cut.

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
        indices: Which of its sequences, shape (B,).
        noise: None for clean text.
        seed: The seed of the noise.
        epochs: The epoch of each sequence, shape (B,) or one for all.
    """
    lengths = None if text.lengths is None else text.lengths[indices]
    rows = text.rows(indices)
    if noise is None:
        return clean(rows, lengths)
    return noise.noised(rows, indices, seed, epochs, lengths)


def prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the same batches; each is made by another thread while the one before is in use."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        upcoming = thread.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = thread.submit(next, batches, None)
            yield batch


def evaluation_batches(
    text: Sequences, batch_size: int, *, noise: Noise | None, limit: int | None = None
) -> Iterator[Batch]:
    """Yield the sequences once, with noise that never changes.

    Sequence i always has the same masked tokens, whatever the batch size, the limit or the seed of
    training: any two tickets evaluated on the same text are asked the same questions. Blocks come
    as they stand in the text, rows of varying length from the longest to the shortest. The last
    batch may be smaller.

    Args:
        text: The held-out text.
        batch_size: Sequences in a batch.
        noise: None for clean text.
        limit: At most so many sequences, spread evenly over the text.
    """
    count = len(text) if limit is None else min(limit, len(text))
    chosen = np.arange(count) * len(text) // count
    if text.lengths is not None:  # memory runs out at once or never, and little is padding
        chosen = chosen[np.argsort(-text.lengths[chosen], kind="stable")]
    starts = range(0, count, batch_size)
    for start in counted(starts, "evaluating", len(starts)):
        yield batch_of(text, chosen[start : start + batch_size], noise, _EVALUATION_SEED, epochs=0)
