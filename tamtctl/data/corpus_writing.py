"""Writing a corpus into the cache, each document to one side of the split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tamtctl.data.repeats import Repeats
from tamtctl.data.symbols import Symbols
from tamtctl.data.text.documents import Document, Source, is_held_out
from tamtctl.data.token_streams import (
    HELD_OUT_FILE,
    METADATA_FILE,
    TRAIN_FILE,
    StreamWriter,
)
from tamtctl.data.tokenization import LineTokenizer
from tamtctl.data.units import Unit
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.working import work

FORMAT_VERSION = 4  # raise it whenever the same corpus would give other files


def write_corpus(
    folder: Path,
    sources: Sequence[Source],
    held_out: Sequence[Source] | None,
    encoder: LineTokenizer,
    unit: Unit,
    max_tokens: int | None,
) -> None:
    """Tokenise texts into a folder; the arguments are those of `tamtctl.data.corpus.load_corpus`.

    Raises:
        CorpusError: A text cannot be read, or one side of the split is empty.
    """
    with ExitStack() as stack:
        train, kept_apart = (
            stack.enter_context(StreamWriter.into(folder, name, encoder, unit, max_tokens))
            for name in (TRAIN_FILE, HELD_OUT_FILE)
        )
        advance = stack.enter_context(work("tokenising", unit="tokens"))
        written = 0
        by_hash = held_out is None and any(source.held_out is None for source in sources)
        repeats = Repeats(is_held_out_first=not by_hash)
        symbols = Symbols(encoder.entries)
        for is_apart, document in _split(sources, held_out, train, kept_apart):
            symbols.look_at(document)
            (repeats.hold_out if is_apart else repeats.train_on)(document)
            has_written = (kept_apart if is_apart else train).add(document)
            if has_written:
                advance(train.tokens + kept_apart.tokens - written)
                written = train.tokens + kept_apart.tokens
        train.flush()
        kept_apart.flush()
        advance(train.tokens + kept_apart.tokens - written)
    _check_not_empty(sources, held_out, train, kept_apart)
    metadata = {
        "format_version": FORMAT_VERSION,
        "sources": [source.name for source in sources],
        "held_out": None if held_out is None else [source.name for source in held_out],
        "documents": train.documents + kept_apart.documents,
        "held_out_documents": kept_apart.documents,
        "dtype": encoder.dtype.str,
        "tokens": {TRAIN_FILE: train.tokens, HELD_OUT_FILE: kept_apart.tokens},
        "rows": {TRAIN_FILE: train.rows, HELD_OUT_FILE: kept_apart.rows},
        "lines_are_sequences": symbols.are_sequences(train.tokens + kept_apart.tokens),
        "lacking": sum(one.skipped.total() for one in (*sources, *(held_out or ()))),
        "unknown": {TRAIN_FILE: train.unknown, HELD_OUT_FILE: kept_apart.unknown},
        "repeats": repeats.shares(),
    }
    (folder / METADATA_FILE).write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")


def _split(
    sources: Iterable[Source],
    held_out: Iterable[Source] | None,
    train: StreamWriter,
    kept_apart: StreamWriter,
) -> Iterator[tuple[bool, Document]]:
    """Yield (is held out, document) for every document, until the stream of its side is full.

    Documents of texts that are held out as a whole come first, so that training documents can be
    compared with them.
    """
    for source in held_out or ():
        yield from _all_held_out(source.documents(), kept_apart)
    for source in sources if held_out is None else ():
        if source.held_out is not None:
            yield from _all_held_out(source.held_out(), kept_apart)
    for source in sources:
        by_hash = held_out is None and source.held_out is None
        for document in source.documents():
            if train.is_full:
                break
            yield by_hash and is_held_out(document.key), document


def _all_held_out(
    documents: Iterable[Document], kept_apart: StreamWriter
) -> Iterator[tuple[bool, Document]]:
    for document in documents:
        if kept_apart.is_full:
            break
        yield True, document


def _check_not_empty(
    sources: Sequence[Source],
    apart: Sequence[Source] | None,
    train: StreamWriter,
    held_out: StreamWriter,
) -> None:
    names = ", ".join(source.name for source in sources)
    if train.tokens + held_out.tokens == 0:
        raise CorpusError(f"the corpus is empty: no text in {names}")
    if held_out.tokens == 0 and apart is not None:
        raise CorpusError(f"no text in --held-out {', '.join(source.name for source in apart)}")
    if held_out.tokens == 0:
        raise CorpusError(
            f"too little text in {names}: none of its {train.documents} documents (lines, or "
            "blocks between blank lines) is held out; give more, or hold another text out (search "
            "--held-out)"
        )
    if train.tokens == 0 and not all(source.is_whole for source in sources):
        raise CorpusError(f"too little text in {names}: nothing is left to train on; give more")
