"""From token streams to batches: blocks, their order in training, and the noise of masked LM.

Nothing here has a state: batch, order and noise follow from (seed, step) alone. A run can resume
at any step, and any number of ranks sees the same examples with the same noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer
from torch import Tensor

from tamtctl.foundations.errors import CorpusError, ModelError, UsageError
from tamtctl.foundations.working import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The noise of BERT: 15 % of the tokens are targets; of these 80 % become [MASK], 10 % a random
# token, and 10 % stay as they are.
MASKED_SHARE = 0.15
_MASK_BELOW = 0.8 * MASKED_SHARE
_RANDOM_BELOW = 0.9 * MASKED_SHARE

# Evaluation noise has a key that no training seed (below 2**63) can have.
_EVALUATION_SEED = 2**64 - 1

_NOISE, _ORDER = 0, 1  # two kinds of random numbers that share seeds

IdArray = NDArray[np.int64]


def _generator(kind: int, seed: int, epoch: int, example: int = 0) -> np.random.Generator:
    """Counter-based random numbers (Philox): each example has its own, whoever asks for them."""
    # The two low words count the numbers drawn; the two high ones tell examples and kinds apart.
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, 0, example, kind], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class Blocks:
    """A token stream cut into blocks of one length, each within the tokenizer's special tokens.

    Block i is ``prefix + stream[i * n : (i + 1) * n] + suffix`` with n the sequence length less
    the special tokens. The ragged tail is dropped, so that there is never any padding.
    """

    def __init__(
        self,
        stream: NDArray[np.integer[Any]],
        sequence_length: int,
        prefix_ids: ArrayLike,
        suffix_ids: ArrayLike,
        *,
        name: str = "the text",
    ) -> None:
        prefix, suffix = np.asarray(prefix_ids, np.int64), np.asarray(suffix_ids, np.int64)
        length = sequence_length - len(prefix) - len(suffix)
        if length < 1:
            raise UsageError(
                f"a sequence length of {sequence_length} leaves no room for text beside "
                f"{len(prefix) + len(suffix)} special tokens; choose a longer one"
            )
        count = len(stream) // length
        if count == 0:
            raise CorpusError(
                f"{name} is too short: {len(stream)} tokens do not fill one block of {length} "
                "and its special tokens; give more text, or choose a shorter --sequence-length"
            )
        self.sequence_length = sequence_length
        self._prefix, self._suffix = prefix, suffix
        self._table = stream[: count * length].reshape(count, length)

    @classmethod
    def of(
        cls,
        stream: NDArray[np.integer[Any]],
        sequence_length: int,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "the text",
    ) -> Self:
        """Cut a stream into blocks with the special tokens that the tokenizer puts around text."""
        return cls(stream, sequence_length, *special_tokens_around(tokenizer), name=name)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> IdArray:
        """Return one block, shape (T,)."""
        block: IdArray = self.rows(np.array([index]))[0]
        return block

    def rows(self, indices: IdArray) -> IdArray:
        """Return the blocks with these indices, shape (B, T)."""
        rows = np.empty((len(indices), self.sequence_length), np.int64)
        end = self.sequence_length - len(self._suffix)
        rows[:, : len(self._prefix)] = self._prefix
        rows[:, len(self._prefix) : end] = self._table[indices]
        rows[:, end:] = self._suffix
        return rows


def special_tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text, e.g. [CLS] and [SEP].

    The tokenizer itself marks what it adds, so that it does not matter what becomes of the text.
    """
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    texts = itertools.chain(["a", "A", "1", "."], backend.get_vocab(with_added_tokens=False))
    for text in texts:  # some tokenizers leave out what they do not know
        encoding = backend.encode(text)
        added = encoding.special_tokens_mask
        if 0 in added:
            start, end = added.index(0), len(added) - added[::-1].index(0)
            return encoding.ids[:start], encoding.ids[end:]
    raise ModelError("the tokenizer makes no tokens of any text; save the model's own beside it")


@dataclass(frozen=True)
class Batch:
    """A batch as a model takes it; clean text has no targets.

    Attributes:
        input_ids: Shape (B, T), int64; every position is attended to, there is no padding.
        masked: Flat positions ``b * T + t`` of the targets, ascending, shape (n,), int64.
        labels: The true ids at these positions, shape (n,), int64.
    """

    input_ids: Tensor
    masked: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device; pinned memory is copied asynchronously."""
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.masked.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU reads by itself."""
        return Batch(
            self.input_ids.pin_memory(), self.masked.pin_memory(), self.labels.pin_memory()
        )

    def split(self, rows: int) -> list[Batch]:
        """Cut into micro-batches of at most so many rows; the targets go with their rows."""
        if rows >= len(self.input_ids):
            return [self]
        length = self.input_ids.shape[1]
        starts = range(0, len(self.input_ids), rows)
        edges = torch.tensor([*starts, len(self.input_ids)]) * length
        bounds = torch.searchsorted(self.masked, edges).tolist()
        return [
            Batch(
                self.input_ids[start : start + rows],
                self.masked[first:last] - start * length,
                self.labels[first:last],
            )
            for start, (first, last) in zip(starts, itertools.pairwise(bounds), strict=True)
        ]


def clean(rows: IdArray) -> Batch:
    """Return blocks of shape (B, T) as a batch without noise, as knowledge distillation takes."""
    nothing = torch.empty(0, dtype=torch.int64)
    return Batch(torch.from_numpy(rows), masked=nothing, labels=nothing)


@dataclass(frozen=True, eq=False)
class Noise:
    """The noise of masked language modelling for one vocabulary.

    Attributes:
        mask_id: The id of the mask token.
        vocabulary_size: Random tokens are drawn from all ids below, as in the field.
        is_special: Which ids are never targets, shape (ids,), bool.
    """

    mask_id: int
    vocabulary_size: int
    is_special: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Derive the noise from a tokenizer.

        Raises:
            ModelError: The tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise ModelError(
                "the tokenizer has no mask token for masked language modelling; use --objective kd "
                "(evaluate: --task kd)"
            )
        ids = max(tokenizer.get_vocab().values()) + 1
        is_special = np.zeros(ids, bool)
        is_special[tokenizer.all_special_ids] = True
        return cls(tokenizer.mask_token_id, len(tokenizer), is_special)

    def noised(self, rows: IdArray, indices: IdArray, seed: int, epochs: ArrayLike) -> Batch:
        """Return blocks of shape (B, T) with noise that depends on nothing but its arguments.

        The noise of a block is keyed by (seed, epoch, index): it does not change with the other
        blocks of the batch, nor with the device or the rank.

        Args:
            rows: The blocks, shape (B, T).
            indices: The index of each block in its stream, shape (B,).
            seed: At least 0.
            epochs: The epoch of each block, shape (B,) or one for all.
        """
        uniform = np.empty(rows.shape)  # (B, T)
        keys = zip(np.broadcast_to(epochs, len(rows)).tolist(), indices.tolist(), strict=True)
        for row, (epoch, index) in zip(uniform, keys, strict=True):
            _generator(_NOISE, seed, epoch, index).random(out=row)
        masked = np.flatnonzero((uniform < MASKED_SHARE) & ~self.is_special[rows])  # (n,)
        labels = rows.ravel()[masked]
        draws = uniform.ravel()[masked]  # uniform in [0, 0.15)
        # The same draw is used again: if it fell into the interval for a random token, it is
        # uniform there, so it also picks the token.
        random_ids = (draws - _MASK_BELOW) / (_RANDOM_BELOW - _MASK_BELOW) * self.vocabulary_size
        random_ids = random_ids.clip(0, self.vocabulary_size - 1).astype(np.int64)
        input_ids = rows.copy()
        input_ids.ravel()[masked] = np.select(
            [draws < _MASK_BELOW, draws < _RANDOM_BELOW], [self.mask_id, random_ids], labels
        )
        return Batch(*map(torch.from_numpy, (input_ids, masked, labels)))


def training_batches(
    blocks: Blocks,
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
        blocks: The training text.
        batch_size: Blocks in the global batch, over all ranks.
        seed: Seed of order and noise, in [0, 2**63).
        noise: None for clean text.
        start_step: The first step, from 0.
        rank: Which slice of the global batch is wanted.
        world_size: Into how many slices the global batch is cut.

    """
    for step in itertools.count(start_step):
        first = step * batch_size
        examples = np.arange(
            first + rank * batch_size // world_size,
            first + (rank + 1) * batch_size // world_size,
        )
        epochs, places = np.divmod(examples, len(blocks))
        indices = np.array(
            [
                _order(len(blocks), seed, epoch)[place]
                for epoch, place in zip(epochs.tolist(), places.tolist(), strict=True)
            ]
        )
        rows = blocks.rows(indices)
        yield clean(rows) if noise is None else noise.noised(rows, indices, seed, epochs)


def prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the same batches; each is made by another thread while the one before is in use."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        upcoming = thread.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = thread.submit(next, batches, None)
            yield batch


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> IdArray:
    return _generator(_ORDER, seed, epoch).permutation(count)


def evaluation_batches(
    blocks: Blocks, batch_size: int, *, noise: Noise | None, limit: int | None = None
) -> Iterator[Batch]:
    """Yield the blocks once, in order, with noise that never changes.

    Block i always has the same masked tokens, whatever the batch size, the limit or the seed of
    training: any two tickets evaluated on the same text are asked the same questions. The last
    batch may be smaller.

    Args:
        blocks: The held-out text.
        batch_size: Blocks in a batch.
        noise: None for clean text.
        limit: At most so many blocks, spread evenly over the text.
    """
    count = len(blocks) if limit is None else min(limit, len(blocks))
    chosen = np.arange(count) * len(blocks) // count
    starts = range(0, count, batch_size)
    for start in counted(starts, "evaluating", len(starts)):
        indices = chosen[start : start + batch_size]
        rows = blocks.rows(indices)
        if noise is None:
            yield clean(rows)
        else:
            yield noise.noised(rows, indices, _EVALUATION_SEED, epochs=0)
