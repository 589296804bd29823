"""A text as sequences for a model: packed blocks of one length, or a row for each unit.

Both have the same interface, `Sequences`, and so the same batches (`tamtctl.data.batches`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from tamtctl.data.padding import IdArray, gathered, pad_id, sorted_in_groups
from tamtctl.foundations.errors import CorpusError, ModelError, UsageError
from tamtctl.foundations.measured_text import SequenceFacts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Sequences(Protocol):
    """A text of indexed sequences, with an order for each epoch."""

    @property
    def lengths(self) -> IdArray | None:
        """Tokens of each sequence, special ones included, shape (n,); None: all are equal."""

    def __len__(self) -> int:
        """Return the number of sequences."""

    def rows(self, indices: IdArray) -> IdArray:
        """Return the sequences with these indices, padded to the longest of them, (B, T)."""

    def facts(self, rows: str, unknown: float) -> SequenceFacts:
        """Return what a person is told of the text.

        Args:
            rows: What a sequence is, a name in `tamtctl.data.units.UNITS`.
            unknown: Share of unknown tokens in the text.
        """

    def order(self, random: np.random.Generator, batch_size: int, head: int) -> IdArray:
        """Return all indices in a random order, shape (n,).

        Args:
            random: The random numbers that the order is drawn with.
            batch_size: Sequences in a batch.
            head: Number of first indices that fill up a batch begun in the epoch before.
        """


class Blocks:
    """A token stream cut into blocks of one length, each between the tokenizer's special tokens.

    Block i is ``prefix + stream[i * n : (i + 1) * n] + suffix`` with n the sequence length minus
    the special tokens. The incomplete last block is dropped, so that there is no padding.
    """

    lengths = None

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
        length = _room(sequence_length, prefix, suffix)
        count = len(stream) // length
        if count == 0:
            raise CorpusError(
                f"{name} is too short: {len(stream)} tokens are less than a block of {length} "
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

    def facts(self, rows: str, unknown: float) -> SequenceFacts:
        """Return what a person is told of the text; see `Sequences.facts`."""
        return SequenceFacts(
            rows,
            count=len(self),
            mean_length=float(self.sequence_length),
            longest=self.sequence_length,
            unknown=unknown,
            cut=0.0,
        )

    def each(self, indices: IdArray) -> Iterator[IdArray]:
        """Yield the blocks with these indices, each of shape (T,)."""
        yield from self.rows(indices)

    def order(self, random: np.random.Generator, batch_size: int, head: int) -> IdArray:
        """Return all indices, shuffled; all blocks have the same length."""
        return random.permutation(len(self))


class Rows:
    """A token stream in which every line, sentence or document is a sequence of its own.

    Row i is ``prefix + stream[ends[i - 1] : ends[i]] + suffix``, cut at the sequence length. The
    rest of a row that is cut is not used, for it is no whole sentence.
    """

    def __init__(
        self,
        stream: NDArray[np.integer[Any]],
        ends: IdArray,
        sequence_length: int,
        prefix_ids: ArrayLike,
        suffix_ids: ArrayLike,
        *,
        pad_id: int,
        name: str = "the text",
    ) -> None:
        """Take a stream and the ends of its units.

        Args:
            stream: Token ids, shape (tokens,).
            ends: Where each unit ends in the stream, strictly ascending, shape (n,).
            sequence_length: Tokens of a row at most, special tokens included.
            prefix_ids: Ids that the tokenizer puts before a text.
            suffix_ids: Ids that the tokenizer puts after a text.
            pad_id: The id that fills up shorter rows of a batch.
            name: The text's name in errors.

        Raises:
            CorpusError: There are no units.
            UsageError: The special tokens take up all of the sequence length.
        """
        self._prefix, self._suffix = np.asarray(prefix_ids, np.int64), np.asarray(suffix_ids)
        room = _room(sequence_length, self._prefix, self._suffix)
        if len(ends) == 0:
            raise CorpusError(f"{name} has no text; give more")
        whole = np.diff(ends, prepend=0)  # tokens of each unit
        self._stream, self._ends, self._whole = stream, ends, whole
        self._pad_id = pad_id
        self.sequence_length = sequence_length
        self._bodies: IdArray = np.minimum(whole, room)
        self.lengths: IdArray = self._bodies + (len(self._prefix) + len(self._suffix))

    @classmethod
    def of(
        cls,
        stream: NDArray[np.integer[Any]],
        ends: IdArray,
        sequence_length: int,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "the text",
    ) -> Self:
        """Make rows with the special tokens that the tokenizer puts around text."""
        around = special_tokens_around(tokenizer)
        return cls(stream, ends, sequence_length, *around, pad_id=pad_id(tokenizer), name=name)

    def __len__(self) -> int:
        return len(self.lengths)

    def facts(self, rows: str, unknown: float) -> SequenceFacts:
        """Return what a person is told of the text; see `Sequences.facts`."""
        return SequenceFacts(
            rows,
            count=len(self),
            mean_length=float(self.lengths.mean()),
            longest=self.sequence_length,
            unknown=unknown,
            cut=1 - float(self._bodies.sum() / self._whole.sum()),
        )

    def rows(self, indices: IdArray) -> IdArray:
        """Return the rows with these indices, padded to the longest of them, shape (B, T)."""
        lengths = self._bodies[indices]  # (B,)
        starts = self._ends[indices] - self._whole[indices]
        bodies = gathered(self._stream, starts, lengths, self._pad_id)
        before, behind = len(self._prefix), len(self._suffix)
        rows = np.full((len(indices), bodies.shape[1] + before + behind), self._pad_id, np.int64)
        rows[:, :before] = self._prefix
        rows[:, before : before + bodies.shape[1]] = bodies
        places = before + lengths[:, None] + np.arange(behind)  # (B, suffix)
        rows[np.arange(len(rows))[:, None], places] = self._suffix
        return rows

    def each(self, indices: IdArray) -> Iterator[IdArray]:
        """Yield the rows with these indices without padding, each of shape (its length,)."""
        for index in indices.tolist():
            yield self.rows(np.array([index]))[0]

    def order(self, random: np.random.Generator, batch_size: int, head: int) -> IdArray:
        """Return all indices in an order that gives batches of rows of similar length.

        The first ``head`` indices and an incomplete last batch stay shuffled. The whole batches
        between them are sorted by length within groups of several batches, and then shuffled.
        """
        order = random.permutation(len(self))
        whole = order[min(head, len(order)) :]
        whole = whole[: len(whole) - len(whole) % batch_size]  # a view of all whole batches
        batches = sorted_in_groups(whole, self.lengths, batch_size).reshape(-1, batch_size)
        whole[:] = batches[random.permutation(len(batches))].ravel()
        return order


class Chosen:
    """A selection of a text's sequences, as a text of its own."""

    def __init__(self, text: Sequences, indices: IdArray) -> None:
        """Select sequences.

        Args:
            text: The whole text.
            indices: Indices of the selected sequences, shape (n,).
        """
        self._text, self._indices = text, indices
        self.lengths = None if text.lengths is None else text.lengths[indices]

    def __len__(self) -> int:
        return len(self._indices)

    def rows(self, indices: IdArray) -> IdArray:
        """Return some of the selected sequences, padded to the longest of them, (B, T)."""
        return self._text.rows(self._indices[indices])

    def facts(self, rows: str, unknown: float) -> SequenceFacts:
        """Return the facts of the whole text, with the number and mean length of this selection."""
        whole = self._text.facts(rows, unknown)
        mean = whole.mean_length if self.lengths is None else float(self.lengths.mean())
        return replace(whole, count=len(self), mean_length=mean)

    def order(self, random: np.random.Generator, batch_size: int, head: int) -> IdArray:
        """Return all indices, shuffled."""
        return random.permutation(len(self))


def _room(sequence_length: int, prefix: IdArray, suffix: IdArray) -> int:
    """Return how many tokens of text fit into a sequence of this length."""
    room = sequence_length - len(prefix) - len(suffix)
    if room < 1:
        raise UsageError(
            f"a sequence length of {sequence_length} leaves no room for text beside "
            f"{len(prefix) + len(suffix)} special tokens; choose a longer one"
        )
    return room


def special_tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text, e.g. [CLS] and [SEP].

    The tokenizer marks the tokens that it adds, so that any text will do.
    """
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    texts = itertools.chain(["a", "A", "1", "."], backend.get_vocab(with_added_tokens=False))
    for text in texts:  # some tokenizers make no tokens of unknown characters
        encoding = backend.encode(text)
        added = encoding.special_tokens_mask
        if 0 in added:
            start, end = added.index(0), len(added) - added[::-1].index(0)
            return encoding.ids[:start], encoding.ids[end:]
    raise ModelError("the tokenizer makes no tokens of any text; save the model's own beside it")
