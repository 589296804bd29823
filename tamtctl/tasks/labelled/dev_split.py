"""A part of labelled examples that is held out of training: which ones, by what they say.

A fifth, at most 5,000 of them, and of every class alike. Which ones depends on the texts alone, not
on their order: those whose hashes are smallest. Examples of one and the same text (of a pair in
either order, of questions on one paragraph) stay together, lest what is scored be known by heart.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import TaskError
from tamtctl.foundations.files import replacing_file
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import kind_of
from tamtctl.tasks.task import Task

DEV_FILE = "dev.jsonl"  # the held-out examples of a run, in its folder

_ONE_IN, _MOST = 5, 5_000
_FEWEST = 10  # different texts, of which two can be held out


@dataclass(frozen=True)
class DevSplit:
    """Examples in two parts.

    Attributes:
        rest: To train on.
        held_out: To measure on.
    """

    rest: Examples
    held_out: Examples

    @classmethod
    def of(cls, task: Task, examples: Examples, *, name: str, advice: str) -> DevSplit:
        """Hold some examples out.

        Args:
            task: Says what a duplicate is, and whether there are classes.
            examples: The training set.
            name: What they are called, for a refusal.
            advice: What to do where there are too few.

        Raises:
            TaskError: There are too few different texts, or there is none that can be spared.
        """
        groups: defaultdict[bytes, list[int]] = defaultdict(list)
        for row, digest in enumerate(_digests(task, examples)):
            groups[digest].append(row)
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


def _digests(task: Task, examples: Examples) -> Iterator[bytes]:
    """Yield a digest for each example, the same for those that must not be parted."""
    for texts in zip(*kind_of(task).kept_together(examples.texts), strict=True):
        plain = sorted(" ".join(text.split()).casefold() for text in texts)
        yield hashlib.sha256(json.dumps(plain).encode()).digest()


def _chosen(task: Task, examples: Examples, groups: dict[bytes, list[int]]) -> Iterator[int]:
    """Yield the rows to hold out: of every class its share, at least a text, but never all."""
    share = min(1 / _ONE_IN, _MOST / len(examples))
    class_of = kind_of(task).class_of
    by_class: defaultdict[Any, list[bytes]] = defaultdict(list)
    for digest, rows in groups.items():
        # A text that stands there with several labels counts for the first class of them.
        classes: set[Any] = {class_of(examples.labels[row]) for row in rows}
        by_class[min(classes) if len(classes) > 1 else classes.pop()].append(digest)
    for digests in by_class.values():
        if len(digests) == 1:  # what there is but once is trained on
            continue
        sizes = {digest: len(groups[digest]) for digest in sorted(digests)}
        wanted, found = max(1, round(share * sum(sizes.values()))), 0
        for digest, size in sizes.items():
            if found + size <= wanted:
                found += size
                yield from groups[digest]
        if not found:  # each of them is there many times: then the rarest one
            yield from groups[min(sizes, key=lambda digest: (sizes[digest], digest))]


def save_examples(path: Path, task: Task, examples: Examples) -> None:
    """Write examples of a task of one's own to a file that can be scored on later.

    Args:
        path: A jsonl file.
        task: Names the columns and the classes.
        examples: To write.
    """
    columns = (*task.columns, task.label_column)
    labels = map(kind_of(task).label_to_cell, examples.labels)
    with replacing_file(path) as file:
        for row in zip(*examples.texts, labels, strict=True):
            file.write(json.dumps(dict(zip(columns, row, strict=True))).encode() + b"\n")
