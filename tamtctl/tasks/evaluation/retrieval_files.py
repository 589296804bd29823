"""Reading queries, passages and relevance: three files in the formats of BEIR.

Queries and passages are JSON lines with ``_id`` and ``text``; a passage may have a ``title``
(Thakur et al., 2021, arXiv:2104.08663, §3). The relevance is a tab-separated table with
``query-id``, ``corpus-id`` and ``score``, which is 0 for a passage that does not answer, and in
some of TREC's collections below 0. A query may name its ``group``, which BEIR does not have:
questions on one article are no independent sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tamtctl.data.text.reading import read_jsonl, read_lines
from tamtctl.foundations.counts import count
from tamtctl.foundations.errors import TaskError

_ID, _QUERY, _PASSAGE, _SCORE = "_id", "query-id", "corpus-id", "score"


@dataclass(frozen=True)
class Texts:
    """Queries or passages.

    Attributes:
        name: The name of their file.
        ids: Their ids, all different.
        texts: The text of each.
        groups: The group of each; empty if a text names none.
    """

    name: str
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def group_count(self) -> int | None:
        """How many groups there are, texts without one counted by themselves; None if none has."""
        if not any(self.groups):
            return None
        return len({group or f"\0{i}" for i, group in enumerate(self.groups)})

    @property
    def places(self) -> dict[str, int]:
        """Return id → index."""
        return {name: place for place, name in enumerate(self.ids)}


@dataclass(frozen=True)
class Asked:
    """The queries, the passages to search, and which passage answers which query.

    Attributes:
        queries: The queries that some passage answers.
        passages: All passages.
        relevant: For each query, index of a passage → its grade, at least 1.
        left_out: How many queries of the file are named in no line of the table.
    """

    queries: Texts
    passages: Texts
    relevant: list[dict[int, int]]
    left_out: int

    @cached_property
    def own(self) -> dict[int, int]:
        """Index of a query → that of the passage that it is, by id and text, if no answer to it."""
        return {
            query: passage
            for query, passage in self._of_its_id.items()
            if self.passages.texts[passage].endswith(self.queries.texts[query])
        }

    @property
    def same_ids(self) -> int:
        """How many queries have the id of a passage that is neither their own nor an answer."""
        return len(self._of_its_id) - len(self.own)

    @cached_property
    def _of_its_id(self) -> dict[int, int]:
        """Index of a query → that of the passage with its id, if that is no answer to it."""
        places = self.passages.places
        ids = enumerate(self.queries.ids)
        found = {query: places[name] for query, name in ids if name in places}
        return {query: at for query, at in found.items() if at not in self.relevant[query]}

    @classmethod
    def read(cls, queries: Path, passages: Path, relevant: Path) -> Asked:
        """Read the three files; a query that the table does not name is left out, as in BEIR.

        Raises:
            TaskError: A file is not of its format; the message names the line.
        """
        all_queries = _read_texts(queries, "query")
        all_passages = _read_texts(passages, "passage")
        found = _read_relevant(relevant, all_queries, all_passages)
        if not found:
            raise TaskError(f"{relevant} names no query of {queries}; there is nothing to measure")
        for name, of_query in found.items():
            if not of_query:
                raise TaskError(
                    f"{relevant}: query {name!r} has no relevant passage, all its scores are 0; "
                    "give it one, or leave it out"
                )
        kept = [i for i, name in enumerate(all_queries.ids) if name in found]
        asked = Texts(
            all_queries.name,
            [all_queries.ids[i] for i in kept],
            [all_queries.texts[i] for i in kept],
            [all_queries.groups[i] for i in kept],
        )
        of_each = [found[name] for name in asked.ids]
        return cls(asked, all_passages, of_each, len(all_queries) - len(asked))


def _read_texts(file: Path, what: str) -> Texts:
    found, lines = Texts(str(file)), dict[str, str]()
    for place, record in read_jsonl(file):
        name = _id_of(record, place)
        if name in lines:
            raise TaskError(
                f"{place} has the {_ID} {name!r} that {lines[name]} has; give each {what} its own"
            )
        lines[name] = place
        text = _text_of(record, "text", place)
        title = _text_of(record, "title", place, default="") if what == "passage" else ""
        whole = f"{title} {text}".strip()  # title and text joined as in BEIR
        if not whole:
            raise TaskError(f"{place}: the {what} {name!r} has no text; leave it out")
        found.ids.append(name)
        found.texts.append(whole)
        found.groups.append(_text_of(record, "group", place, default="") if what == "query" else "")
    if not found.ids:
        raise TaskError(f"{file} holds no {what}; each line is a JSON object with {_ID} and text")
    return found


def _id_of(record: Mapping[str, Any], place: str) -> str:
    name = record.get(_ID)
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name:
        state = "has no" if name is None else f"has {name!r} for its"
        raise TaskError(f"{place} {state} {_ID}, which names it; give it a text or a whole number")
    if re.search(r"[\t\r\n]", name):
        raise TaskError(f"{place} has the {_ID} {name!r}, which no line of a table can name")
    return name


def _text_of(record: Mapping[str, Any], key: str, place: str, *, default: str | None = None) -> str:
    value = record.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        state = "is missing" if value is None else f"is {value!r}"
        raise TaskError(f"{place}: {key} {state}, and must be a text")
    return value.strip()


def _read_relevant(file: Path, queries: Texts, passages: Texts) -> dict[str, dict[int, int]]:
    """Return query id → index of a passage → its grade, for passages that answer."""
    known, places = set(queries.ids), passages.places
    found: dict[str, dict[int, int]] = {}
    seen: dict[tuple[str, str], str] = {}
    for place, query, passage, score in _relevant_rows(file):
        for name, one, among in ((_QUERY, query, queries), (_PASSAGE, passage, passages)):
            if one not in (known if name == _QUERY else places):
                raise TaskError(f"{place} has the {name} {one!r}, which is not in {among.name}")
        if (query, passage) in seen:
            raise TaskError(
                f"{place} names query {query!r} and passage {passage!r} as "
                f"{seen[query, passage]} does; say it once"
            )
        seen[query, passage] = place
        of_query = found.setdefault(query, {})
        if score:
            of_query[places[passage]] = score
    return found


def _relevant_rows(file: Path) -> Iterator[tuple[str, str, str, int]]:
    """Yield place, query id, passage id and score of each line after the header."""
    columns: list[str] = []
    for number, line in enumerate(read_lines(file), start=1):
        place, cells = f"{file}:{number}", line.split("\t")
        if not columns:
            columns = cells
            if sorted(columns) not in ([_PASSAGE, _QUERY], [_PASSAGE, _QUERY, _SCORE]):
                raise TaskError(
                    f"{place} is not the header {_QUERY}, {_PASSAGE}, {_SCORE} with tabs between "
                    "them; write it into the first line"
                )
        elif line.strip():
            if len(cells) != len(columns):
                raise TaskError(f"{place} has {count(len(cells), 'column')}, not {len(columns)}")
            row = dict(zip(columns, cells, strict=True))
            score = row.get(_SCORE, "1").strip()
            if not re.fullmatch(r"[+-]?[0-9]{1,6}", score):
                raise TaskError(
                    f"{place} has the {_SCORE} {score!r}; it is a whole number that says how well "
                    "the passage answers, 0 or less if it does not"
                )
            yield place, row[_QUERY], row[_PASSAGE], max(0, int(score))
    if not columns:
        raise TaskError(f"{file} is empty; its first line is {_QUERY}, {_PASSAGE}, {_SCORE}")
