"""A benchmark: a public task, and where its examples come from.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamtctl.foundations.shelves import Row
from tamtctl.tasks.task import Task


@dataclass(frozen=True)
class MadeExamples:
    """Examples that a benchmark makes on this machine instead of reading them from files.

    Attributes:
        source: The name of what they are made of, for messages.
        labels: The names of the classes.
        digest: A digest of their content.
        records: Split → its records, each with its place and its columns.
    """

    source: str
    labels: tuple[str, ...]
    digest: str
    records: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]


@dataclass(frozen=True, kw_only=True)
class Benchmark(Row):
    """A public task.

    Attributes:
        name: The name of its task.
        code: The module whose ``make()`` returns `MadeExamples`; empty if the examples are read
            from files.
        task: Its columns, labels, metrics and hyperparameters; also where its files are: on the Hub
            (``hub``), or in a folder of that name (``folder``).
        zero_shot: The name under which ``evaluate`` correlates its labels with the cosine of
            sentence embeddings, without training; None if labels are no similarities.
        header_marks: Columns in the header of its published TSV files, by which these are told from
            a user's own table.
    """

    name: str = field(init=False)
    code: str | object = ""
    task: Task
    zero_shot: str | None = None
    header_marks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Set the name to that of the task."""
        object.__setattr__(self, "name", self.task.name)

    def made(self) -> MadeExamples | None:
        """Return the examples that its code makes, None if they are read from files."""
        return self.function("make")() if self.code else None
