"""From text to token streams on disk: one stream for training, and one held out.

Streams are written once for each corpus, tokenizer and options, and memory-mapped afterwards, so
that neither text nor tokens need to fit in memory. `tamtctl.data.text.sources` reads documents,
`tamtctl.data.tokenization` turns lines into ids, and `tamtctl.data.batches` cuts streams into
blocks and noised batches.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.data.corpus_writing import FORMAT_VERSION, write_corpus
from tamtctl.data.padding import IdArray
from tamtctl.data.repeats import notes_on, overlap
from tamtctl.data.sequences import Blocks, Rows
from tamtctl.data.text.documents import Source
from tamtctl.data.text.sources import open_source
from tamtctl.data.token_streams import (
    ENDS_TYPE,
    HELD_OUT_FILE,
    METADATA_FILE,
    TRAIN_FILE,
    ends_file,
    is_intact,
    new_folder,
)
from tamtctl.data.tokenization import LineTokenizer
from tamtctl.data.units import BLOCKS, LINES, UNITS, Unit
from tamtctl.foundations.cache import cache_folder
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.measured_text import MIN_SEQUENCES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_DIGESTS = 100  # most digests of texts that a ticket lists
_MANY_UNKNOWN = 0.05  # share of unknown tokens above which there is a note

TokenStream = NDArray[np.unsignedinteger[Any]]
Choice = Callable[[Sequence[Source]], Sequence[bool]]


@dataclass(frozen=True)
class Corpus:
    """A tokenised corpus, memory-mapped.

    Attributes:
        name: The user's name for it; several names are joined by commas.
        fingerprint: SHA-256 of content, tokenizer and options: equal fingerprints, equal streams.
        train: Token ids of the training text, shape (tokens,), read-only.
        held_out: Token ids of the held-out text, shape (tokens,), read-only.
        train_ends: Where each row of the training text ends, shape (rows,); None for packed text.
        held_out_ends: Where each row of the held-out text ends, likewise.
        train_unknown: Share of unknown tokens in the training text.
        held_out_unknown: Share of unknown tokens in the held-out text.
        rows: What the text is cut into, a name in `tamtctl.data.units.UNITS`.
        documents: Number of documents in both texts.
        tokens: Number of tokens in both texts.
        held_out_name: A description of the held-out text for people.
        digests: Digests of the sources; a single digest if there are more than 100.
        notes: Lines that a person should read: on unknown tokens, skipped files and the like.
    """

    name: str
    fingerprint: str
    train: TokenStream
    held_out: TokenStream
    train_ends: IdArray | None
    held_out_ends: IdArray | None
    train_unknown: float
    held_out_unknown: float
    rows: str
    documents: int
    tokens: int
    held_out_name: str
    digests: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def training_text(
        self, sequence_length: int, tokenizer: PreTrainedTokenizerBase, *, name: str
    ) -> Blocks | Rows:
        """Return the training text as sequences of at most ``sequence_length`` tokens.

        Args:
            sequence_length: Most tokens of a sequence, special tokens included.
            tokenizer: The tokenizer that the corpus was tokenised with.
            name: The text's name in errors.

        Raises:
            CorpusError: The text is too short.
        """
        return _sequences(self.train, self.train_ends, sequence_length, tokenizer, name)

    def held_out_text(
        self, sequence_length: int, tokenizer: PreTrainedTokenizerBase, *, name: str
    ) -> Blocks | Rows:
        """Return the held-out text as sequences; see `training_text`."""
        return _sequences(self.held_out, self.held_out_ends, sequence_length, tokenizer, name)


def _sequences(
    stream: TokenStream,
    ends: IdArray | None,
    sequence_length: int,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
) -> Blocks | Rows:
    if ends is None:
        return Blocks.of(stream, sequence_length, tokenizer, name=name)
    return Rows.of(stream, ends, sequence_length, tokenizer, name=name)


def load_corpus(
    source: str | Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    rows: str = BLOCKS,
    held_out: str | Sequence[str] | None = None,
    whole: Choice | None = None,
    text_column: str | None = None,
    max_tokens: int | None = None,
) -> Corpus:
    """Tokenise a corpus, or find it in the cache.

    Documents are tokenised line by line without special tokens. The held-out text is the first of
    these that exists: all of ``held_out``; the split ``validation`` of a Hub dataset; one document
    in ten, chosen by a hash of the document, so that the split depends neither on the order of
    documents nor on file names.

    Args:
        source: ``python-docs``, a file, a folder, a Hub dataset ``id[:config]``, or several.
        tokenizer: A fast tokenizer.
        rows: What the text is cut into, a name in `tamtctl.data.units.UNITS`.
        held_out: Text to evaluate on, named as ``source`` is.
        whole: Returns for each opened source whether all of it is held out, instead of a part.
        text_column: The column of records that holds the text; see
            `tamtctl.data.text.sources.open_source`.
        max_tokens: Most tokens to write of each side of the split.

    Raises:
        CorpusError: A source cannot be read or cut, one side of the split is empty or has only
            unknown tokens, or the cache cannot be written.
        ModelError: The tokenizer is not a fast one.
    """
    encoder = LineTokenizer(tokenizer)
    sources = _open_all(source, text_column)
    if whole is not None:
        chosen = whole(sources)
        sources = [s.held_out_whole() if w else s for s, w in zip(sources, chosen, strict=True)]
    apart = None if held_out is None else _open_all(held_out, text_column)
    unit = UNITS[rows]
    options = {
        "text_column": text_column,
        "max_tokens": max_tokens,
        "rows": [rows, unit.made_by],
    }
    fingerprint = _fingerprint(sources, apart, encoder, options)
    name = ", ".join(_names(source))
    folder = cache_folder("corpora") / fingerprint
    if not is_intact(folder):
        with new_folder(folder) as unfinished:
            write_corpus(unfinished, sources, apart, encoder, unit, max_tokens)
    metadata = json.loads((folder / METADATA_FILE).read_text())
    dtype = np.dtype(metadata["dtype"])
    apart_name = None if held_out is None else ", ".join(_names(held_out))
    held_out_name = apart_name or _held_out_name(name, sources)
    return Corpus(
        name=name,
        fingerprint=fingerprint,
        train=_mapped(folder / TRAIN_FILE, dtype),
        held_out=_mapped(folder / HELD_OUT_FILE, dtype),
        train_ends=None if unit.is_packed else _mapped(ends_file(folder, TRAIN_FILE), ENDS_TYPE),
        held_out_ends=(
            None if unit.is_packed else _mapped(ends_file(folder, HELD_OUT_FILE), ENDS_TYPE)
        ),
        train_unknown=_unknown(metadata, TRAIN_FILE),
        held_out_unknown=_unknown(metadata, HELD_OUT_FILE),
        rows=rows,
        documents=metadata["documents"],
        tokens=sum(metadata["tokens"].values()),
        held_out_name=held_out_name + overlap(metadata["repeats"]),
        digests=digests_of(sources),
        notes=(
            *(note for one in (*sources, *(apart or ())) for note in one.notes),
            *_notes(name, apart_name, sources, unit, text_column, metadata),
        ),
    )


def _notes(
    name: str,
    apart_name: str | None,
    sources: Sequence[Source],
    unit: Unit,
    text_column: str | None,
    metadata: Mapping[str, Any],
) -> Iterator[str]:
    """Yield notes on a tokenised corpus, a line each.

    Args:
        name: The corpus.
        apart_name: The text that is held out, if it is another one.
        sources: The corpus's sources.
        unit: What the text is cut into.
        text_column: The column that was asked for.
        metadata: What was counted while the tokens were written.
    """
    if lacking := metadata["lacking"]:
        yield f"{lacking:,} records of {name} lack the column {text_column!r}: left out"
    if unit.is_packed and metadata["lines_are_sequences"]:
        yield (
            f"each line of {name} looks like a sequence of its own, of characters or atoms, and "
            f"blocks run over their ends; give --rows {LINES}"
        )
    if apart_name is None and not any(s.held_out or s.is_whole for s in sources):
        yield from _note_of_few_documents(name, metadata)
    yield from _note_of_unknown(name, metadata["tokens"], metadata["unknown"])
    yield from notes_on(metadata["repeats"], apart_name or name)


def _note_of_few_documents(name: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield a note if a text's held-out tenth is of very few documents."""
    apart = metadata.get("held_out_documents", MIN_SEQUENCES)  # an older cache does not say
    if apart < MIN_SEQUENCES:
        share = metadata["tokens"][HELD_OUT_FILE] / sum(metadata["tokens"].values())
        yield (
            f"the held-out tenth of {name} is {apart} of its {metadata['documents']:,} documents "
            f"(lines, or blocks between blank lines), {share:.0%} of its tokens: errors and "
            "intervals are of its sequences, and say little of other documents"
        )


def _unknown(metadata: Mapping[str, Any], name: str) -> float:
    """Return the share of unknown tokens in a stream."""
    return float(metadata["unknown"][name] / max(metadata["tokens"][name], 1))


def _mapped(file: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not file.stat().st_size:  # the text is held out as a whole; an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(file, dtype=dtype, mode="r")


def digests_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the digests of sources, sorted; a single one for all if there are more than 100."""
    digests = sorted(source.digest for source in sources)
    if len(digests) <= _MOST_DIGESTS:
        return tuple(digests)
    return (f"all {hashlib.sha256(json.dumps(digests).encode()).hexdigest()}",)


def _held_out_name(name: str, sources: Sequence[Source]) -> str:
    """Return a name for the part of the sources that is held out."""
    if all(source.is_whole for source in sources):
        return name
    if any(source.is_whole for source in sources):
        return f"{name} (what is held out of it)"
    if all(source.held_out is not None for source in sources):
        return f"{name} (its validation split)"
    if all(source.held_out is None for source in sources):
        return f"{name} (its held-out tenth)"
    return f"{name} (what is held out of it)"


def _names(source: str | Sequence[str]) -> list[str]:
    return [source] if isinstance(source, str) else list(source)


def _open_all(source: str | Sequence[str], text_column: str | None) -> list[Source]:
    return [opened for name in _names(source) for opened in open_source(name, text_column)]


def _fingerprint(
    sources: Iterable[Source],
    held_out: Iterable[Source] | None,
    encoder: LineTokenizer,
    options: dict[str, Any],
) -> str:
    identity = {
        "format_version": FORMAT_VERSION,
        "sources": [source.digest for source in sources],
        "held_out": None if held_out is None else [source.digest for source in held_out],
        "tokenizer": encoder.digest,
        "options": options,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _note_of_unknown(
    name: str, tokens: Mapping[str, int], unknown: Mapping[str, int]
) -> Iterator[str]:
    """Yield a note if much of a text is unknown to the tokenizer; refuse a text of which all is."""
    parts = {TRAIN_FILE: "to train on", HELD_OUT_FILE: "held out"}
    for part in parts:
        if (count := tokens[part]) and unknown[part] == count:
            raise CorpusError(
                f"100 % of the {count:,} tokens {parts[part]} of {name} are unknown to the model: "
                "it cannot read this text (another script, or another case?); give text that it "
                "can, or another --model"
            )
    share, part = max((unknown[part] / count, part) for part, count in tokens.items() if count)
    if share > _MANY_UNKNOWN:
        yield (
            f"{math.floor(100 * share)} % of the tokens {parts[part]} of {name} are unknown to the "
            "model: what they stand for is neither learnt nor measured; is this text of the "
            "model's language, script and case?"
        )
