"""Holding examples out of a training set, by hashes of their texts.

A fifth is held out, at most 5,000 examples, with the same share of every class. The texts with the
smallest hashes are taken, so that the order of the examples does not matter. Examples that share a
text (one of a pair, or the paragraph of questions) stay together, so that no text that is scored on
was trained on. Where that would leave too little to choose from (every text is paired with one of a
few questions), only pairs of the same two texts do, in either order.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import TaskError
from tamtctl.foundations.files import replacing_file
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.task import Task

DEV_FILE = "dev.jsonl"  # the held-out examples of a run, in its folder

_ONE_IN, _MOST = 5, 5_000
_FEWEST = 10  # different texts that a split needs


@dataclass(frozen=True)
class DevSplit:
    """Examples in two parts.

    Attributes:
        rest: The examples to train on.
        held_out: The examples to measure on.
    """

    rest: Examples
    held_out: Examples

    @classmethod
    def of(cls, task: Task, examples: Examples, *, name: str, advice: str) -> DevSplit:
        """Hold some examples out.

        Args:
            task: Its kind decides which examples are duplicates, and whether there are classes.
            examples: The training set.
            name: The name of the examples, for an error.
            advice: What to do if there are too few, for an error.

        Raises:
            TaskError: There are too few different texts, or only one of each class.
        """
        groups = _groups(task, examples)
        if len(groups) < _FEWEST:
            raise TaskError(
                f"{name}: too few different texts to hold some of them out ({len(groups)}; at "
                f"least {_FEWEST} are needed); {advice}"
            )
        chosen = sorted(_chosen(task, examples, groups))
        if not chosen:
            raise TaskError(
                f"{name}: there is but one text of each class, so that none can be held out; "
                f"{advice}"
            )
        taken = set(chosen)
        rest = [row for row in range(len(examples)) if row not in taken]
        return cls(examples.take(rest), examples.take(chosen))


def _groups(task: Task, examples: Examples) -> dict[bytes, list[int]]:
    """Return digest → the rows of the examples that stay together."""
    pairs = [
        sorted(" ".join(text.split()).casefold() for text in texts)
        for texts in zip(*kind_of(task).kept_together(examples.texts), strict=True)
    ]
    linked = _by_digest(_linked([[_digest([text]) for text in texts] for texts in pairs]))
    sizes = map(len, linked.values())
    if sum(size for size in sizes if size * _ONE_IN <= len(pairs)) >= len(pairs) / 2:
        return linked
    return _by_digest(map(_digest, pairs))


def _digest(texts: Sequence[str]) -> bytes:
    return hashlib.sha256(json.dumps(texts).encode()).digest()


def _by_digest(digests: Iterable[bytes]) -> dict[bytes, list[int]]:
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        groups[digest].append(row)
    return groups


def _linked(rows: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Return, for each row, the smallest digest of all rows that it is linked with.

    Rows that share a digest are linked, and so are rows that are linked with the same third one.
    """
    smaller: dict[bytes, bytes] = {}  # a digest → a linked one that is no larger

    def smallest(digest: bytes) -> bytes:
        while (found := smaller.setdefault(digest, digest)) != digest:
            smaller[digest] = smaller[found]
            digest = found
        return digest

    for first, *others in rows:
        for other in others:
            low, high = sorted(map(smallest, (first, other)))
            smaller[high] = low
    return [smallest(row[0]) for row in rows]


def _chosen(task: Task, examples: Examples, groups: dict[bytes, list[int]]) -> Iterator[int]:
    """Yield the rows to hold out: a share of every class, at least one text, but never all."""
    share = min(1 / _ONE_IN, _MOST / len(examples))
    class_of = kind_of(task).class_of
    by_class: defaultdict[Any, list[bytes]] = defaultdict(list)
    for digest, rows in groups.items():
        # A text with several labels counts for the first of their classes.
        classes: set[Any] = {class_of(examples.labels[row]) for row in rows}
        by_class[min(classes) if len(classes) > 1 else classes.pop()].append(digest)
    for digests in by_class.values():
        if len(digests) == 1:  # the only text of a class is trained on
            continue
        sizes = {digest: len(groups[digest]) for digest in sorted(digests)}
        wanted, found = max(1, round(share * sum(sizes.values()))), 0
        for digest, size in sizes.items():
            if found + size <= wanted:
                found += size
                yield from groups[digest]
        if not found:  # each has many copies: take the one with the fewest
            yield from groups[min(sizes, key=lambda digest: (sizes[digest], digest))]


def save_examples(path: Path, task: Task, examples: Examples) -> None:
    """Write examples of a user's own task to a file that can be scored on later.

    Args:
        path: The jsonl file to write.
        task: Names the columns and the classes.
        examples: The examples.
    """
    columns = (*task.columns, task.label_column)
    labels = map(kind_of(task).label_to_cell, examples.labels)
    with replacing_file(path) as file:
        for row in zip(*examples.texts, labels, strict=True):
            file.write(json.dumps(dict(zip(columns, row, strict=True))).encode() + b"\n")
