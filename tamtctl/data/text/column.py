"""Finding the column of records that holds the text, or refusing if several could."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamtctl.foundations.errors import CorpusError

Record = tuple[str, Mapping[str, Any]]  # its place in the text, and column → value

_MANY = 1000  # records on which the choice is made,
_MANY_CHARACTERS = 2**24  # or fewer if they are long, since they are held in memory


@dataclass
class _Column:
    """Counts of a column's characters: in plain strings, and in strings inside other values."""

    plain: int = 0
    nested: int = 0

    def add(self, value: object) -> None:
        if isinstance(value, str):
            self.plain += _characters(value)
        else:
            self.nested += _characters(value)


@dataclass(frozen=True)
class Sample:
    """The first records of a text.

    Attributes:
        records: The records, each with its place in the text.
        is_all: Whether these are all records.
        declared: Columns that the schema declares as strings; empty without a schema.
        columns: Column → its counts, in the order in which columns first appear.
    """

    records: Sequence[Record]
    is_all: bool
    declared: frozenset[str] = frozenset()
    columns: dict[str, _Column] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterator[Record], declared: Iterable[str] = ()) -> Sample:
        """Take the first records from an iterator."""
        taken: list[Record] = []
        columns: dict[str, _Column] = {}
        characters = 0
        for place, record in itertools.islice(records, _MANY):
            taken.append((place, record))
            for name, value in record.items():
                column = columns.setdefault(name, _Column())
                column.add(value)
            characters += sum(map(_characters, record.values()))
            if characters > _MANY_CHARACTERS:
                return cls(taken, False, frozenset(declared), columns)
        return cls(taken, len(taken) < _MANY, frozenset(declared), columns)

    def text_column(self, wanted: str | None) -> str:
        """Return the column of the text: ``wanted``, else ``text``, else the only one of strings.

        Raises:
            CorpusError: There is no such column, or several could be meant.
        """
        place = self.records[0][0]
        if wanted is not None:
            if wanted not in self.columns:
                raise CorpusError(f"{place} has no column {wanted!r}, but {listed(self.columns)}")
            return wanted
        if "text" in self.columns and self.columns["text"].plain:
            return "text"
        strings, nested = self._candidates()
        others = [name for name in self.columns if name in (*strings, *nested) and name != "text"]
        if "text" in self.columns and not others and "text" not in nested:
            return "text"
        if "text" not in self.columns and len(strings) == 1 and not nested:
            return strings[0]
        if nested and not strings:
            raise CorpusError(
                f"{place} holds its text inside the values of {listed(nested)}, which are not "
                "strings; write it into a column of its own"
            )
        why = "no text in its column" if "text" in self.columns else "no column"
        raise CorpusError(
            f"{place} has {why} 'text', but {listed(others or self.columns)}; "
            "name one with --text-column"
        )

    def _candidates(self) -> tuple[list[str], list[str]]:
        """Return the columns of strings, and those with more text inside lists or objects."""
        strings = [
            name
            for name, column in self.columns.items()
            if column.plain or (name in self.declared and not self.is_all)
        ]
        most = max((self.columns[name].plain for name in strings), default=0)
        return strings, [n for n, column in self.columns.items() if column.nested > most]


def _characters(value: object) -> int:
    """Return the number of characters of text in a value, at any depth."""
    count, values = 0, [value]
    while values:
        one = values.pop()
        if isinstance(one, str):
            count += len(one.strip())
        elif isinstance(one, Mapping):
            values.extend(one.values())
        elif isinstance(one, list | tuple):
            values.extend(one)
    return count


def listed(columns: Iterable[str]) -> str:
    """Return the names of columns for a message."""
    return ", ".join(map(repr, columns)) or "no columns at all"
