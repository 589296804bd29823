"""Streaming text from the Hub during training, for corpora too large for a disk.

Documents are shuffled within a buffer, and each process gets a share of them. About a megabyte of
text at a time is tokenised and cut into sequences, which are shuffled again. All of this follows
from seed, epoch and number of processes; a resumed training reads its share again up to where it
was. Held-out documents are left out by the same rule by which `tamtctl.data.corpus.load_corpus`
finds them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tamtctl.data.batch import Batch, clean
from tamtctl.data.batches import training_batches
from tamtctl.data.noise import Noise
from tamtctl.data.padding import IdArray, gathered, pad_id
from tamtctl.data.sequences import Blocks, Rows, Sequences, special_tokens_around
from tamtctl.data.text.documents import Document, Source, is_held_out
from tamtctl.data.text.sources import open_source
from tamtctl.data.token_streams import CHARACTERS_AT_ONCE, Waiting
from tamtctl.data.tokenization import LineTokenizer
from tamtctl.data.units import BLOCKS, UNITS, Unit
from tamtctl.foundations.errors import CorpusError, UsageError


@dataclass(frozen=True)
class StreamedText:
    """A text that is read while it is trained on, and not kept.

    Attributes:
        source: The source, which can be read in shares.
        tokenizer: A fast one.
        sequence_length: Tokens of a sequence at most, special tokens included.
        leaves_out_held_out: Whether to leave out documents that are held out by their hash.
        unit: What a sequence is.
    """

    source: Source
    tokenizer: PreTrainedTokenizerBase
    sequence_length: int
    leaves_out_held_out: bool
    unit: Unit = UNITS[BLOCKS]

    @classmethod
    def open(
        cls,
        name: str,
        tokenizer: PreTrainedTokenizerBase,
        sequence_length: int,
        *,
        text_column: str | None,
        has_held_out: bool,
        rows: str = BLOCKS,
    ) -> StreamedText:
        """Open a text that can be streamed.

        Args:
            name: A Hub dataset ``id[:config]``.
            tokenizer: A fast one.
            sequence_length: Tokens of a sequence at most, special tokens included.
            text_column: See `tamtctl.data.text.sources.open_source`.
            has_held_out: Whether another text is held out, so that no document has to be left out.
            rows: What a sequence is, a name in `tamtctl.data.units.UNITS`.

        Raises:
            CorpusError: The dataset cannot be read.
            UsageError: The name is not that of a Hub dataset.
        """
        source, *others = open_source(name, text_column)
        if others or source.share is None:
            raise UsageError(f"--stream is for a Hub dataset; leave it out for {name!r}")
        by_hash = not has_held_out and source.held_out is None
        return cls(source, tokenizer, sequence_length, by_hash, UNITS[rows])

    def training_batches(
        self,
        batch_size: int,
        seed: int,
        *,
        noise: Noise | None,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[Batch]:
        """Yield endless batches; see `tamtctl.data.batches.training_batches`.

        The sequences of a rank depend on the number of ranks. The noise of a sequence is keyed by
        its number in this run.

        Raises:
            CorpusError: The text cannot be read, or a rank's share has no whole sequence.
        """
        own = (rank + 1) * batch_size // world_size - rank * batch_size // world_size
        sequences = itertools.islice(
            self._sequences(seed, rank, world_size, own), start_step * own, None
        )
        for step in itertools.count(start_step):
            rows, lengths = self._padded(list(itertools.islice(sequences, own)))
            indices = (step * own + np.arange(own)) * world_size + rank
            if noise is None:
                yield clean(rows, lengths)
            else:
                yield noise.noised(rows, indices, seed, epochs=0, lengths=lengths)

    def _padded(self, sequences: list[IdArray]) -> tuple[IdArray, IdArray | None]:
        """Return sequences as rows of one length, (B, T), and their own lengths if they differ."""
        if self.unit.is_packed:
            return np.stack(sequences), None
        lengths = np.array([len(sequence) for sequence in sequences])
        flat, starts = np.concatenate(sequences), np.cumsum(lengths) - lengths
        return gathered(flat, starts, lengths, pad_id(self.tokenizer)), lengths

    def _sequences(
        self, seed: int, rank: int, world_size: int, batch_size: int
    ) -> Iterator[IdArray]:
        """Yield the sequences of a share endlessly, each of shape (its length,)."""
        assert self.source.share is not None  # checked in `open`
        done = 0
        for epoch in itertools.count():
            documents = self.source.share(seed, epoch, rank, world_size)
            if self.leaves_out_held_out:
                documents = (d for d in documents if not is_held_out(d.key))
            is_empty = True
            for number, piece in enumerate(self._pieces(documents)):
                if piece is None:
                    continue
                is_empty = False
                random = np.random.default_rng((seed, epoch, number))
                order = piece.order(random, batch_size, head=-done % batch_size)
                yield from piece.each(order)
                done += len(order)
            if is_empty:
                raise CorpusError(
                    f"{self.source.name} is too short to be streamed to {world_size} processes; "
                    "leave out --stream, or start fewer"
                )

    def _pieces(self, documents: Iterable[Document]) -> Iterator[Blocks | Rows | None]:
        """Yield about a megabyte of text at a time; None if it has no whole sequence."""
        encoder = LineTokenizer(self.tokenizer)
        around = special_tokens_around(self.tokenizer)
        length = self.sequence_length - sum(map(len, around))
        rest = np.empty(0, encoder.dtype)
        for ids, ends in self._encoded(documents, encoder):
            if not self.unit.is_packed:
                yield (
                    Rows(ids, ends, self.sequence_length, *around, pad_id=pad_id(self.tokenizer))
                    if len(ends)
                    else None
                )
                continue
            stream = np.concatenate([rest, ids])
            whole = len(stream) - len(stream) % length
            rest = stream[whole:]
            yield Blocks(stream[:whole], self.sequence_length, *around) if whole else None

    def _encoded(
        self, documents: Iterable[Document], encoder: LineTokenizer
    ) -> Iterator[tuple[NDArray[np.unsignedinteger[Any]], IdArray]]:
        waiting = Waiting()
        for document in documents:
            waiting.add(document, self.unit)
            if waiting.characters >= CHARACTERS_AT_ONCE:
                yield waiting.encoded(encoder)
                waiting = Waiting()
        yield waiting.encoded(encoder)


def batches_of(text: Sequences | StreamedText) -> Callable[..., Iterator[Batch]]:
    """Return the function that makes training batches of a text, streamed or not.

    It takes the arguments of `tamtctl.data.batches.training_batches` after ``text``.
    """
    return (
        text.training_batches if isinstance(text, StreamedText) else partial(training_batches, text)
    )
