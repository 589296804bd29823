"""Units of text: packed blocks, or a row for every line, sentence or document.

Packed blocks waste no space, and suit a model that was pre-trained on them. If each line is a
sequence of its own (a molecule, a protein), or if a model embeds sentences, a block across lines or
sentences is an input that the model never gets in use.

Imports nothing heavy, so that the command line can make an option of them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tamtctl.foundations.config import DATA, setting
from tamtctl.foundations.errors import CorpusError

if TYPE_CHECKING:
    from tamtctl.data.text.documents import Document

BLOCKS, LINES, SENTENCES, DOCUMENTS = "blocks", "lines", "sentences", "documents"

_SPLITTER = "sentencex"
# The splitter's rules for English also hold for languages without rules of their own, and include
# the sentence ends of other scripts.
_LANGUAGE = "en"
_SHORTEST_WRAPPED = 40  # fewest characters of a line that may have been wrapped to fit a page
_ENDS_OF_SENTENCES = (".", "!", "?", ":", ";", "…")

Lines = Sequence[str]


@dataclass(frozen=True)
class Unit:
    """A way to cut a text into sequences.

    Attributes:
        name: Its name on the command line, the plural of the noun.
        noun: What one row is.
        summary: A short description for help texts.
        rows: Cuts a document into rows, each of one or more lines; None for packed text.
        package: The package that does the cutting, if any.
    """

    name: str
    noun: str
    summary: str
    rows: Callable[[Document], Iterator[Lines]] | None = None
    package: str | None = None

    @property
    def is_packed(self) -> bool:
        """Whether sequences run across the ends of lines and documents."""
        return self.rows is None

    @property
    def made_by(self) -> str | None:
        """The package that does the cutting, with its version; None if there is none.

        Raises:
            CorpusError: The package is not installed.
        """
        if self.package is None:
            return None
        try:
            return f"{self.package} {importlib.metadata.version(self.package)}"
        except importlib.metadata.PackageNotFoundError as error:
            raise _missing_splitter() from error


def _lines(document: Document) -> Iterator[Lines]:
    return ((line,) for line in document.lines)


def _sentences(document: Document) -> Iterator[Lines]:
    try:
        from sentencex import segment
    except ImportError as error:
        raise _missing_splitter() from error
    for line in _unwrapped(document.lines):
        for sentence in cast("list[str]", segment(_LANGUAGE, line)):
            if stripped := sentence.strip():
                yield (stripped,)


def _unwrapped(lines: Lines) -> Iterator[str]:
    """Join lines that were wrapped in the middle of a sentence to fit a page.

    A wrapped line is long and does not end a sentence, and the next line starts in lower case.
    """
    whole = ""
    for line in lines:
        last = whole.rstrip()
        is_wrapped = len(last) >= _SHORTEST_WRAPPED and not last.endswith(_ENDS_OF_SENTENCES)
        if is_wrapped and line.lstrip()[:1].islower():
            whole = f"{last} {line.lstrip()}"
        else:
            if whole:
                yield whole
            whole = line
    if whole:
        yield whole


def _documents(document: Document) -> Iterator[Lines]:
    if lines := document.lines:
        yield lines


def _missing_splitter() -> CorpusError:
    return CorpusError(
        f"rows of sentences are cut by the package {_SPLITTER}, which is not installed: pip "
        f"install {_SPLITTER}, or give --rows {LINES}"
    )


UNITS: Mapping[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit(BLOCKS, "block", "packed end to end"),
        Unit(LINES, "line", "each line by itself", _lines),
        Unit(SENTENCES, "sentence", "each sentence by itself", _sentences, _SPLITTER),
        Unit(DOCUMENTS, "document", "each document by itself, its start if it is long", _documents),
    )
}


def rows_setting(by_default: str, **facts: Any) -> Any:
    """Return the setting ``--rows``, whose default differs between commands."""
    return setting(
        default=None,
        help=f"What the text is cut into: {{summaries}}. By default {by_default}.",
        more="Sentences end with their line, unless that was broken to fit a page.",
        panel=DATA,
        choices=UNITS,
        **facts,
    )


def rows_of(search: Mapping[str, Any]) -> str:
    """Return the unit of a search's text, from the settings that a ticket keeps.

    Blocks are not written down, since they were the only unit before there was a setting.
    """
    rows = search.get("rows")
    return rows if isinstance(rows, str) and rows in UNITS else BLOCKS
