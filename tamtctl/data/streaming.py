"""Text that is read from the Hub while it is trained on, for corpora too large for a disk.

Documents come in an order shuffled by seed and epoch within a buffer, each process has a share of
them, and about a megabyte of text at a time is tokenised and cut into blocks, which are shuffled
once more. All of this follows from seed, epoch and number of processes; a training that is resumed
reads its share again up to where it was. Held-out documents are left out by the rule that
`tamtctl.data.corpus.load_corpus` finds them by.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from tamtctl.data.batch import Batch, clean
from tamtctl.data.noise import Noise
from tamtctl.data.padding import IdArray
from tamtctl.data.sequences import Blocks, special_tokens_around
from tamtctl.data.text.documents import Document, Source, is_held_out
from tamtctl.data.text.sources import open_source
from tamtctl.data.token_streams import CHARACTERS_AT_ONCE
from tamtctl.data.tokenization import LineTokenizer
from tamtctl.foundations.errors import CorpusError, UsageError


@dataclass(frozen=True)
class StreamedText:
    """One text that is too large to be kept.

    Attributes:
        source: Can be read in shares.
        tokenizer: A fast one.
        sequence_length: Tokens of a block, special tokens included.
        leaves_out_held_out: Whether documents are held out by their hash.
    """

    source: Source
    tokenizer: PreTrainedTokenizerBase
    sequence_length: int
    leaves_out_held_out: bool

    @classmethod
    def open(
        cls,
        name: str,
        tokenizer: PreTrainedTokenizerBase,
        sequence_length: int,
        *,
        text_column: str | None,
        has_held_out: bool,
    ) -> StreamedText:
        """Find a text that can be streamed.

        Args:
            name: A Hub dataset ``id[:config]``.
            tokenizer: A fast one.
            sequence_length: Tokens of a block, special tokens included.
            text_column: See `tamtctl.data.text.sources.open_source`.
            has_held_out: Another text is evaluated on.

        Raises:
            CorpusError: It cannot be read.
            UsageError: It is no Hub dataset.
        """
        source, *others = open_source(name, text_column)
        if others or source.share is None:
            raise UsageError(f"--stream is for a Hub dataset; leave it out for {name!r}")
        by_hash = not has_held_out and source.held_out is None
        return cls(source, tokenizer, sequence_length, by_hash)

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
        """Yield batch after batch without end; see `tamtctl.data.batches.training_batches`.

        What a rank sees depends on the number of ranks. The noise of a block is keyed by its
        number in this run.

        Raises:
            CorpusError: The text cannot be read, or a share of it does not fill a block.
        """
        own = (rank + 1) * batch_size // world_size - rank * batch_size // world_size
        blocks = itertools.islice(self._blocks(seed, rank, world_size), start_step * own, None)
        for step in itertools.count(start_step):
            rows = np.stack(list(itertools.islice(blocks, own)))  # (own, T)
            indices = (step * own + np.arange(own)) * world_size + rank
            yield clean(rows) if noise is None else noise.noised(rows, indices, seed, epochs=0)

    def _blocks(self, seed: int, rank: int, world_size: int) -> Iterator[IdArray]:
        """Yield the blocks of a share without end, each of shape (T,)."""
        assert self.source.share is not None  # `open` sees to it
        encoder = LineTokenizer(self.tokenizer)
        prefix, suffix = special_tokens_around(self.tokenizer)
        length = self.sequence_length - len(prefix) - len(suffix)
        for epoch in itertools.count():
            documents = self.source.share(seed, epoch, rank, world_size)
            if self.leaves_out_held_out:
                documents = (d for d in documents if not is_held_out(d.key))
            is_empty = True
            rest = np.empty(0, encoder.dtype)
            for number, lines in enumerate(_chunks(documents)):
                stream = np.concatenate([rest, encoder.encode(lines)])
                whole = len(stream) - len(stream) % length
                rest = stream[whole:]
                if not whole:
                    continue
                is_empty = False
                blocks = Blocks(stream[:whole], self.sequence_length, prefix, suffix)
                order = np.random.default_rng((seed, epoch, number)).permutation(len(blocks))
                yield from blocks.rows(order)
            if is_empty:
                raise CorpusError(
                    f"{self.source.name} is too short to be streamed to {world_size} processes; "
                    "leave out --stream, or start fewer"
                )


def _chunks(documents: Iterable[Document]) -> Iterator[list[str]]:
    """Yield lists of lines, each of about a megabyte of text."""
    lines: list[str] = []
    characters = 0
    for document in documents:
        lines += document.lines
        characters += len(document.text)
        if characters >= CHARACTERS_AT_ONCE:
            yield lines
            lines, characters = [], 0
    yield lines
