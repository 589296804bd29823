"""Reading CoNLL files: a word a line, its tag in the last column, a blank line after a sentence.

Columns are separated by tabs in lines that have one, else by spaces. ``-DOCSTART-`` lines are
skipped, and so are comments: lines before a sentence that begin with ``# `` and have another number
of columns than other words, or end in what is the tag of none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tamtctl.data.text.reading import read_lines
from tamtctl.foundations.counts import count
from tamtctl.foundations.errors import TaskError

_DOCUMENT = "-DOCSTART-"
_HASH = "# "  # begins a comment, or a row whose word it is
_ADVICE = "every line is a word and, in the last column, its tag; a blank line ends a sentence"


@dataclass
class TaggedSentence:
    """A sentence of a file.

    Attributes:
        line: The number of its first line, from 1.
        words: Its words, in order.
        tags: The last column of each word, if there are two columns or more.
    """

    line: int
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


def read_columns(file: Path, *, with_tags: bool) -> Iterator[TaggedSentence]:
    """Yield the sentences of a file in CoNLL's columns.

    Args:
        file: The file, plain or compressed.
        with_tags: Whether every word must have a tag.

    Raises:
        TaskError: A line has another number of columns than the first; the message names it.
    """
    (wanted, tags), sentence = _columns(file), TaggedSentence(0)
    for number, line in enumerate(read_lines(file), start=1):
        cells = _cells(line)
        is_remark = (
            not sentence.words
            and line.startswith(_HASH)
            and (len(cells) != wanted or cells[-1] not in tags)
        )
        if not any(cells) or cells[0] == _DOCUMENT or is_remark:
            if sentence.words:
                yield _checked(file, sentence)
            sentence = TaggedSentence(0)
            continue
        _check(file, number, cells, wanted, with_tags=with_tags)
        sentence.line = sentence.line or number
        sentence.words.append(cells[0])
        sentence.tags += cells[-1:] if wanted > 1 else []
    if sentence.words:
        yield _checked(file, sentence)


def _columns(file: Path) -> tuple[int, set[str]]:
    """Return how many columns the first row has, and the last column of all rows.

    Lines that may be comments do not count.
    """
    width, tags = 0, set()
    for line in read_lines(file):
        cells = _cells(line)
        if any(cells) and cells[0] != _DOCUMENT and not line.startswith(_HASH):
            width = width or len(cells)
            tags.add(cells[-1])
    return width, tags


def ends_in_tags(file: Path, tags: frozenset[str]) -> bool:
    """Return whether the rows have several columns, of which the last is one of the tags."""
    width, found = _columns(file)
    return width > 1 and found <= tags


def _cells(line: str) -> list[str]:
    """Return the columns of a line; only tabs and spaces separate them, no other white space."""
    if "\t" in line:
        return [cell.strip(" \r") for cell in line.rstrip(" \r").split("\t")]
    return re.split(" +", line.strip(" \r"))


def _check(file: Path, number: int, cells: list[str], wanted: int, *, with_tags: bool) -> None:
    place, found = f"{file}:{number}", len(cells)
    if with_tags and found < 2:
        raise TaskError(f"{place} has a word without a tag ({cells[0]!r}); {_ADVICE}")
    if found != wanted:
        raise TaskError(
            f"{place} has {count(found, 'column')}, and the first word of the file {wanted}; "
            f"{_ADVICE}"
        )
    if not cells[0] or not cells[-1]:
        raise TaskError(f"{place} has no {'tag' if cells[0] else 'word'}; {_ADVICE}")


def _checked(file: Path, sentence: TaggedSentence) -> TaggedSentence:
    """Return the sentence; refuse one whose first column numbers the words, as in CoNLL-U."""
    words = sentence.words
    if len(words) > 2 and words == [str(i) for i in range(1, len(words) + 1)]:
        raise TaskError(
            f"{file}:{sentence.line}: the first column numbers the words; leave two columns, the "
            f"word and its tag: {_ADVICE}"
        )
    return sentence
