"""Documents and sources of text, and the rule that says which documents are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

PYTHON_DOCS = "python-docs"


class Document(NamedTuple):
    """A text of one or more lines, and the key whose hash decides whether it is held out."""

    key: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.text.split("\n") if holds_text(line)]


@dataclass(frozen=True)
class Source:
    """A text that can be read repeatedly.

    Attributes:
        name: The user's name for it.
        digest: Identifies the content: equal digests, equal documents.
        documents: Reads the documents from the start.
        held_out: Reads the held-out documents of a source that has its own; else None.
        share: Called with seed, epoch, index of a share and number of shares, reads this share of
            the documents, shuffled by seed and epoch; None if the source cannot.
        notes: Lines that a person should read about files that are not read.
        is_whole: Whether all of it is held out.
        skipped: Column → number of records without it, counted while documents are read.
    """

    name: str
    digest: str
    documents: Callable[[], Iterator[Document]]
    held_out: Callable[[], Iterator[Document]] | None = None
    share: Callable[[int, int, int, int], Iterator[Document]] | None = None
    notes: tuple[str, ...] = ()
    is_whole: bool = False
    skipped: Counter[str] = field(default_factory=Counter, compare=False)

    def held_out_whole(self) -> Source:
        """Return the same text with all of its documents held out."""
        nothing: tuple[Document, ...] = ()
        return replace(
            self,
            digest=f"whole {self.digest}",
            documents=lambda: iter(nothing),
            held_out=self.documents,
            share=None,
            is_whole=True,
        )


def holds_text(line: str) -> bool:
    """Return whether a line has more than white space."""
    return bool(line) and not line.isspace()


def is_held_out(key: str) -> bool:
    """Return whether the document with this key is in the held-out tenth."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 10 == 0
