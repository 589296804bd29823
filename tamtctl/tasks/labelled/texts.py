"""Texts of one's own that a checkpoint is to label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.tasks.kinds.table import TABLES, usual_kind
from tamtctl.tasks.labelled.files import BLANK, read_lines_with_ends, records_of, suffix_of
from tamtctl.tasks.labelled.records import text_of
from tamtctl.tasks.registry import own_task
from tamtctl.tasks.task import Task

_OTHER_SUFFIXES = (".json", ".ndjson", ".xml", ".html", ".arrow", ".xlsx", ".xls", ".ods", ".pkl")


def read_texts(
    file: Path, columns: Sequence[str], kind: str | None = None
) -> list[tuple[str, ...]]:
    """Read text to label: the lines of a text file, or columns of a tsv, csv, jsonl or parquet.

    Every line or row is one text, in order; of one that is blank or null, the text is empty.

    Args:
        file: Any of these kinds; a text file serves a single column.
        columns: The columns that the task reads.
        kind: Of the task; None: of a usual one.

    Raises:
        TaskError: The file cannot be read, lacks a column, or is empty.
    """
    if not file.exists() or file.is_dir():  # a pipe will do
        raise TaskError(f"no file {str(file)!r} to label")
    if suffix_of(file) in TABLES:
        task = own_task("text", tuple(columns), "", kind or usual_kind())
        texts = [
            tuple(_text_to_label(task, place, record, column) for column in columns)
            for place, record in records_of(task, file, with_blank=True)
        ]
    elif (suffix := suffix_of(file)) in _OTHER_SUFFIXES:
        raise TaskError(
            f"{file} is not read as text, for it is a {suffix} file; make it {', '.join(TABLES)} "
            "or lines of text (.txt)"
        )
    elif len(columns) == 1:
        texts = [(line.rstrip("\r\n"),) for line in read_lines_with_ends(file)]
    else:
        raise UsageError(
            f"the task reads pairs of texts ({', '.join(columns)}); give a tsv, csv, jsonl or "
            f"parquet file with these columns, not {file}"
        )
    if not texts:
        raise TaskError(f"{file} holds nothing to label")
    return texts


def _text_to_label(task: Task, place: str, record: Mapping[str, Any], column: str) -> str:
    is_empty = record is BLANK or (column in record and record[column] is None)
    return "" if is_empty else text_of(task, place, record, column)
