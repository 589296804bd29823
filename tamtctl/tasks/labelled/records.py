"""The data of a task: records from files or the Hub, and the examples made of them.

A *record* is a mapping from column to value. A split is read only when it is asked for, as there
may be no other than the dev split.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tamtctl.foundations.errors import TaskError
from tamtctl.tasks.examples import TRAIN, Examples
from tamtctl.tasks.kinds.base import Record, TaskKind
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.task import Task


@dataclass(frozen=True)
class TaskData:
    """Where the examples of a task come from.

    Attributes:
        task: The task; a user's own has the labels of its training split.
        name: The name of the source, for messages.
        digest: Digest of the content of local files; the name of other sources.
        records: Reads the records of a split, ``train`` or one of ``task.dev_splits``.
        commit: The commit of a Hub dataset; None for local files.
        labels: The labels of a user's own training split, as they are in the file.
        notes: Notes on how the files are read.
        has_guessed_kind: Whether the kind was guessed from the labels.
        has_no_dev: Whether there is only a training split.
    """

    task: Task
    name: str
    digest: str
    records: Callable[[str], Iterable[Record]]
    commit: str | None = None
    labels: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()
    has_guessed_kind: bool = False
    has_no_dev: bool = False

    @property
    def identity(self) -> dict[str, str]:
        """What identifies the data: their content or commit on the Hub, and their classes."""
        name, labels = self.task.name, self.task.labels
        classes = {f"classes of {name}": json.dumps(labels)} if labels else {}
        return {f"data of {name}": self.commit or self.digest} | classes

    def train(self) -> Examples:
        """Read the training split.

        Raises:
            TaskError: The split cannot be read, is empty, or an example does not fit the task.
        """
        return self._examples(TRAIN)

    def dev(self) -> dict[str, Examples]:
        """Read the dev splits: suffix of a metric's name → examples.

        Raises:
            TaskError: As in `train`; or the primary metric is not defined on the examples.
        """
        found = {suffix: self._examples(split) for suffix, split in self.task.dev_splits.items()}
        for examples in found.values():
            self.check_metric(examples)
        return found

    def check_metric(self, examples: Examples) -> None:
        """Refuse examples on which the primary metric is not defined.

        Args:
            examples: The examples to measure on.

        Raises:
            TaskError: The metric is not defined, by `TaskKind.obstacle`.
        """
        if obstacle := kind_of(self.task).obstacle(examples):
            advice = "a --dev file with others" if self.has_no_dev else "other dev examples"
            raise TaskError(f"{self.name}: {obstacle}; give {advice}")

    def _examples(self, split: str) -> Examples:
        kind = kind_of(self.task)
        rows = [_example(kind, place, record) for place, record in self.records(split)]
        if not rows:
            raise TaskError(f"{self.name}: the split {split!r} of {self.task.name} is empty")
        ids = [str(number) if name is None else name for number, (name, _, _) in enumerate(rows)]
        texts = tuple(map(list, zip(*(texts for _, texts, _ in rows), strict=True)))
        return Examples(ids, texts, [label for _, _, label in rows])


def _example(
    kind: TaskKind, place: str, record: Mapping[str, Any]
) -> tuple[str | None, tuple[Any, ...], Any]:
    task = kind.task
    texts = tuple(text_of(task, place, record, column) for column in task.columns)
    label = kind.label(place, cell_of(task, place, record, task.label_column), texts)
    if not kind.has_own_ids:
        return None, texts, label
    own = record.get("id")
    return place if own is None else str(own), texts, label


def cell_of(task: Task, place: str, record: Mapping[str, Any], column: str) -> Any:
    """Return the value of a record in a column of a task, also under its other names.

    Args:
        task: Names the columns.
        place: Where the record is from, for messages.
        record: The record.
        column: The column, as the task calls it.

    Raises:
        TaskError: The record has no such column, or no value in it.
    """
    name = name_of(task, record, column)
    if name is not None:
        value = record[name]
        is_blank = isinstance(value, str) and not value.strip()
        if value is None or (is_blank and column == task.label_column):  # a text may be blank
            raise TaskError(
                f"{place} has nothing in column {name!r}; fill it in, or leave the example out"
            )
        return value
    columns = ", ".join(map(repr, record)) or "none at all"
    option = "--text-column" if column in task.columns else "--label-column"
    advice = "" if task.is_public else f"; name yours with {option}"
    raise TaskError(f"{place} has no column {column!r}, but {columns}{advice}")


def name_of(task: Task, record: Mapping[str, Any], column: str) -> str | None:
    """Return the name under which a record has a column of a task, None if it lacks it."""
    names = (column, *(other for other, own in task.other_names.items() if own == column))
    return next((name for name in names if name in record), None)


def text_of(
    task: Task, place: str, record: Mapping[str, Any], column: str
) -> str | tuple[str, ...]:
    """Return the text of a record in a column, as the task's kind reads it.

    Raises:
        TaskError: As by `cell_of`, or the cell holds no text.
    """
    value = cell_of(task, place, record, column)
    text = kind_of(task).text(f"{place}, column {column!r},", value)
    try:
        " ".join(text).encode()
    except UnicodeEncodeError as error:
        raise TaskError(f"{place}, column {column!r}, is not valid Unicode") from error
    return text
