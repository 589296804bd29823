"""What every source of text is: documents, a digest, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

PYTHON_DOCS = "python-docs"


class Document(NamedTuple):
    """A text of one or more lines, and the key whose hash says on which side of the split it is."""

    key: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.text.split("\n") if holds_text(line)]


@dataclass(frozen=True)
class Source:
    """One text that can be read again and again.

    Attributes:
        name: What the user called it.
        digest: Identifies the content: equal digests, equal documents.
        documents: Reads the documents from the start.
        held_out: Reads the held-out documents, where the source brings its own.
        share: Reads one of several shares of the documents (seed, epoch, number of the share from
            0, number of shares), in an order that seed and epoch shuffle; where a source can.
        notes: Lines that a person should know of what is not read.
        is_whole: All of it is held out.
        skipped: Counts, while documents are read, the records that lack the column asked for.
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
    """Tell whether there is more in a line than spaces."""
    return bool(line) and not line.isspace()


def is_held_out(key: str) -> bool:
    """Tell whether the document with this key is in the tenth that is held out."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 10 == 0
