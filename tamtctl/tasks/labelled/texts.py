"""Reading a user's own texts that a checkpoint is to label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.table import TABLES, usual_kind
from tamtctl.tasks.labelled.files import (
    BLANK,
    no_such_file,
    read_lines_with_ends,
    records_of,
    suffix_of,
)
from tamtctl.tasks.labelled.records import name_of, text_of
from tamtctl.tasks.registry import own_task
from tamtctl.tasks.task import Task

_OTHER_SUFFIXES = (".json", ".ndjson", ".xml", ".html", ".arrow", ".xlsx", ".xls", ".ods", ".pkl")


def read_texts(
    file: Path, columns: Sequence[str], task: Task | None = None
) -> list[tuple[Any, ...]]:
    """Read text to label: the lines of a text file, or columns of a tsv, csv, jsonl or parquet.

    Every line or row is one text, in order; a blank or null one is an empty text. A kind of task
    may read further formats.

    Args:
        file: A file of one of these formats; a text file has a single column.
        columns: The columns to read.
        task: The task that the texts are labelled for; None: a task with these columns.

    Raises:
        TaskError: The file cannot be read, lacks a column, or is empty.
    """
    if not file.exists() or file.is_dir():  # not is_file, as it may be a pipe
        raise TaskError(f"{no_such_file(file)}; give a file of texts to label")
    task = task or own_task("text", tuple(columns), "", usual_kind())
    task, suffix = replace(task, columns=tuple(columns), label_column=""), suffix_of(file)
    kind = kind_of(task)
    if suffix in TABLES or kind.is_own_format(file, suffix):
        texts = [
            tuple(_text_to_label(task, place, record, column) for column in columns)
            for place, record in records_of(task, file, with_blank=True)
        ]
    elif suffix in _OTHER_SUFFIXES:
        raise TaskError(
            f"{file} is not read as text, for it is a {suffix} file; make it {', '.join(TABLES)} "
            "or lines of text (.txt)"
        )
    elif len(columns) == 1:
        lines = enumerate(read_lines_with_ends(file), start=1)
        texts = [(kind.text(f"{file}:{n}", line.rstrip("\r\n")),) for n, line in lines]
    else:
        raise UsageError(
            f"the task reads pairs of texts ({', '.join(columns)}); give a tsv, csv, jsonl or "
            f"parquet file with these columns, not {file}"
        )
    if not texts:
        raise TaskError(f"{file} holds nothing to label")
    return texts


def _text_to_label(
    task: Task, place: str, record: Mapping[str, Any], column: str
) -> str | tuple[str, ...]:
    name = name_of(task, record, column)
    is_empty = record is BLANK or (name is not None and record[name] is None)
    return text_of(task, place, {column: ""} if is_empty else record, column)
