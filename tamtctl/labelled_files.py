"""Labelled files, record by record: tables, JSON lines, parquet, and SQuAD's JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tamtctl.errors import TaskError
from tamtctl.tasks import TASKS, Task
from tamtctl.text import open_binary, read_jsonl, read_lines, read_whole_lines, reading

Record = tuple[str, Mapping[str, Any]]  # where it is from, for messages, and its columns
_Row = tuple[int, list[str]]  # the number of its line in a file, and its cells


def records_of(task: Task, file: Path) -> Iterator[Record]:
    """Yield the records of a file for a task; which ones it needs, it has to see itself.

    Raises:
        TaskError: The file is not what its suffix says; the message names the line.
    """
    readers: dict[str, Callable[[Path], Iterator[Record]]] = {
        ".tsv": partial(_tsv_records, task),
        ".jsonl": read_jsonl,
        ".csv": partial(_csv_records, task),
        ".parquet": _parquet_records,
        ".json": _squad_records,
    }
    return readers[kind_of(file)](file)


def kind_of(file: Path) -> str:
    """Return the suffix that says what a file is, be it compressed or not."""
    return Path(file.name.lower().removesuffix(".xz").removesuffix(".gz")).suffix


def _tsv_records(task: Task, file: Path) -> Iterator[Record]:
    """Read GLUE's TSV: a quote is a quote, only line feeds end lines, only tabs columns."""
    lines = enumerate(read_lines(file), start=1)
    return _table_records(
        task,
        file,
        ((number, line.split("\t")) for number, line in lines if line),
        "a TSV file has its columns between tabs, one example a line",
        columns=task.unnamed_columns,
        is_glues_own=task.name in TASKS,
    )


def _csv_records(task: Task, file: Path) -> Iterator[Record]:
    advice = "a CSV file has its columns between commas; quote a field that holds a comma"
    return _table_records(task, file, _csv_rows(file), advice)


def _csv_rows(file: Path) -> Iterator[_Row]:
    rows = csv.reader(_csv_lines(file), strict=True)
    while True:
        number = rows.line_num + 1
        try:
            with _fields_of_any_length():
                cells = next(rows, None)
        except csv.Error as error:
            raise TaskError(
                f"{file}:{number} is not CSV: {error}; a field with a comma, a quote or a line "
                "break stands in quotes, and a quote in it is written twice"
            ) from error
        if cells is None:
            return
        if cells:
            yield number, cells


def _csv_lines(file: Path) -> Iterator[str]:
    """Yield lines as the csv module wants them: with their ends, a carriage return being one."""
    for line in read_whole_lines(file):
        yield from io.StringIO(line, newline="")


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the csv module's limit, which is one for the whole process, while a row is read."""
    limit = csv.field_size_limit(2**31 - 1)  # the largest that every platform takes
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _table_records(
    task: Task,
    file: Path,
    rows: Iterable[_Row],
    advice: str,
    *,
    columns: Sequence[str] = (),
    is_glues_own: bool = False,
) -> Iterator[Record]:
    """Name the cells of every row by the header, which is the first row unless there are columns.

    Of GLUE's own rows everybody drops the cells that have no name, and the rows that are broken.
    """
    for number, cells in rows:
        if not columns:
            _check_header(task, file, cells)
            columns = cells
        elif len(cells) == len(columns) or (is_glues_own and len(cells) > len(columns)):
            yield f"{file}:{number}", dict(zip(columns, cells, strict=False))
        elif not (is_glues_own and task.has_broken_rows):
            raise TaskError(
                f"{file}:{number} has {len(cells)} columns, not {len(columns)}; {advice}"
            )


def _check_header(task: Task, file: Path, columns: Sequence[str]) -> None:
    """Refuse a header that has a name twice, unless nobody reads these columns."""
    used = {*task.columns, task.label_column, *task.other_names} - {""}  # "": there is no label
    for name in columns:
        if name in used and (count := columns.count(name)) > 1:
            raise TaskError(f"{file} has {count} columns {name!r}; rename all but the one to read")


def _parquet_records(file: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise TaskError(f"{file} is not a readable Parquet file: {reason}") from error
    return ((f"{file} row {number}", row) for number, row in enumerate(rows))


def _squad_records(file: Path) -> Iterator[Record]:
    """Read SQuAD's JSON: articles, their paragraphs, and the questions on each."""
    try:
        with reading(file), open_binary(file) as binary:
            articles = json.load(binary)["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = question["answers"]
                    record = {
                        "id": question["id"],
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": {
                            "text": [answer["text"] for answer in answers],
                            "answer_start": [answer["answer_start"] for answer in answers],
                        },
                    }
                    yield f"{file}, question {question['id']}", record
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError(
            f"{file} is not in SQuAD's format ({type(error).__name__}: {error})"
        ) from error
