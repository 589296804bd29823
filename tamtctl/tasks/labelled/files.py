"""Reading labelled files as records: tables, JSON lines, parquet, and formats of a kind."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tamtctl.data.text.reading import read_json_record, read_jsonl, read_lines, read_whole_lines
from tamtctl.data.text.tables import MARKS, csv_rows, long_fields, other_mark
from tamtctl.foundations.counts import count
from tamtctl.foundations.errors import TaskError
from tamtctl.tasks.benchmarks.table import BENCHMARKS
from tamtctl.tasks.kinds.base import Record
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.task import Task

_Row = tuple[int, list[str]]  # the number of its line in a file, and its cells


BLANK: Mapping[str, Any] = MappingProxyType({})  # the record of a blank line


def no_such_file(file: Path) -> str:
    """Return the start of an error on a path that is no file: it is a folder, or nothing."""
    return f"{str(file)!r} is a folder, no file" if file.is_dir() else f"no file {str(file)!r}"


def records_of(task: Task, file: Path, *, with_blank: bool = False) -> Iterator[Record]:
    """Yield the records of a file, each with its place; a record may lack what the task needs.

    Args:
        task: Names the columns, and may read further formats.
        file: The file; its suffix (`suffix_of`) decides how it is read.
        with_blank: Yield `BLANK` for a blank line instead of leaving it out.

    Raises:
        TaskError: The file is not what its suffix says; the message names the line.
    """
    readers: dict[str, Callable[[Path], Iterator[Record]]] = {
        ".tsv": partial(_tsv_records, task, with_blank=with_blank),
        ".jsonl": partial(_json_lines, with_blank=with_blank),
        ".csv": partial(_csv_records, task, with_blank=with_blank),
        ".parquet": partial(_parquet_records, task),
    }
    kind = kind_of(task)
    readers |= dict.fromkeys(kind.row.own_suffixes, kind.own_records)
    return readers[suffix_of(file)](file)


def suffix_of(file: Path) -> str:
    """Return the suffix of a file's format, without .gz or .xz."""
    return Path(file.name.lower().removesuffix(".xz").removesuffix(".gz")).suffix


def reading_notes(task: Task, file: Path) -> list[str]:
    """Return notes on how a user's file is read."""
    suffix = suffix_of(file)
    if suffix != ".tsv" or suffix in kind_of(task).row.own_suffixes:
        return []
    lines = list(read_lines_with_ends(file))
    if lines and _is_published(task, lines[0]):
        return []
    rows, has_quoted_cells = _own_tsv_rows(lines)
    if not has_quoted_cells:
        return [
            f"{file}: quotes are read as they stand, for not all of them are paired and doubled as "
            "pandas and R write them"
        ]
    if any(len(cells) == 1 and "\n" in cells[0] for _, cells in rows):
        return [
            f"{file}: all lines from a quote to the next are one text, as pandas and R write it; "
            "name the file .txt to read each line by itself"
        ]
    return []


def _json_lines(file: Path, *, with_blank: bool) -> Iterator[Record]:
    if not with_blank:
        return read_jsonl(file)
    return (
        next(read_json_record(f"{file}:{number}", line), (f"{file}:{number}", BLANK))
        for number, line in enumerate(read_lines(file), start=1)
    )


def _tsv_records(task: Task, file: Path, *, with_blank: bool) -> Iterator[Record]:
    """Read a TSV; in published files quotes are text, and only line feeds end lines."""
    lines = read_lines_with_ends(file)
    first = next(lines, "")
    lines = itertools.chain([first], lines)
    is_published = _is_published(task, first)
    return _table_records(
        task,
        file,
        _plain_rows(lines) if is_published else _own_tsv_rows(list(lines))[0],
        "a TSV file has its columns between tabs, one example a line",
        columns=task.unnamed_columns if is_published else (),
        is_published=is_published,
        with_blank=with_blank,
    )


def _is_published(task: Task, first_line: str) -> bool:
    """Return whether a TSV file is one of those that a benchmark publishes, by its first line.

    A user's own table of the same columns is read by other rules.
    """
    cells = first_line.rstrip("\r\n").split("\t")
    if columns := task.unnamed_columns:  # there the first line is an example, and has a class
        return len(cells) == len(columns) and not {"0", "1"}.isdisjoint(cells)
    row = BENCHMARKS.get(task.name)
    return row is not None and bool(row.header_marks) and {*row.header_marks} <= {*cells}


def _plain_rows(lines: Iterable[str]) -> Iterator[_Row]:
    for number, line in enumerate(lines, start=1):
        text = line.removesuffix("\n").removesuffix("\r")
        yield number, text.split("\t") if text else []


def _own_tsv_rows(lines: Sequence[str]) -> tuple[list[_Row], bool]:
    """Return the rows of a user's TSV, and False if its quotes had to be read as text.

    Quotes are interpreted if that makes a table of the whole file, as pandas and R write it: cells
    in quotes, with quotes in them doubled or after a backslash. Else quotes are text, as in
    published files.
    """
    plain = list(_plain_rows(lines))
    if not any('"' in line for line in lines):
        return plain, True
    for text in (lines, [line.replace('\\"', '""') for line in lines]):
        rows = _quoted_rows(text)
        if rows and _is_table(rows) and not (_has_breaks(rows) and _is_table(plain)):
            return rows, True
    return plain, False


def read_lines_with_ends(file: Path) -> Iterator[str]:
    """Yield lines with their line ends; carriage returns count in a file without line feeds."""
    lines = read_whole_lines(file)
    first = next(lines, "")
    yield from [first] if first.endswith("\n") else io.StringIO(first, newline="")
    yield from lines


def _quoted_rows(lines: Iterable[str]) -> list[_Row]:
    """Return the rows of tab-separated lines by the rules of CSV; none if a line breaks them."""
    reader, rows = csv.reader(lines, delimiter="\t", strict=True), []
    try:
        with long_fields():
            number = 1
            for cells in reader:
                rows.append((number, cells))
                number = reader.line_num + 1
    except csv.Error:
        return []
    return rows


def _is_table(rows: Sequence[_Row]) -> bool:
    """Return whether all rows that are not blank have the same number of cells."""
    return len({len(cells) for _, cells in rows if not _is_blank(cells)}) <= 1


def _has_breaks(rows: Sequence[_Row]) -> bool:
    """Return whether a cell holds a tab or a line end, which would end it without quotes."""
    return any(
        len(cells) > 1 and any("\n" in cell or "\t" in cell for cell in cells) for _, cells in rows
    )


def _is_blank(cells: Sequence[str]) -> bool:
    return not cells or (len(cells) == 1 and not cells[0].strip())


def _csv_records(task: Task, file: Path, *, with_blank: bool) -> Iterator[Record]:
    advice = "a CSV file has its columns between commas; quote a field that holds a comma"
    return _table_records(task, file, csv_rows(file, TaskError), advice, with_blank=with_blank)


def _table_records(
    task: Task,
    file: Path,
    rows: Iterable[_Row],
    advice: str,
    *,
    columns: Sequence[str] = (),
    is_published: bool = False,
    with_blank: bool = False,
) -> Iterator[Record]:
    """Yield a record for every row; without ``columns``, the first row names the cells.

    In published files, cells beyond the named ones are dropped, and so are broken rows, as all
    readers of GLUE do.
    """
    for number, cells in rows:
        if not columns:
            if cells:
                _check_header(task, file, cells)
            columns = cells
        elif not cells or (_is_blank(cells) and len(columns) > 1 and not is_published):
            if with_blank:
                yield f"{file}:{number}", BLANK
        elif len(cells) == len(columns) or (is_published and len(cells) > len(columns)):
            yield f"{file}:{number}", dict(zip(columns, cells, strict=False))
        elif not (is_published and task.has_broken_rows):
            if len(cells) == len(columns) + 1 and number == 2:
                advice = f"give each a name in the first line (R's row.names=FALSE), or: {advice}"
            raise TaskError(
                f"{file}:{number} has {count(len(cells), 'column')}, not {len(columns)}; {advice}"
            )


def _check_header(task: Task, file: Path, columns: Sequence[str]) -> None:
    """Refuse a header that names a column twice that is read, or has other separators."""
    used = {*task.columns, task.label_column, *task.other_names} - {""}  # "" if there is no label
    for name in columns:
        if name in used and (times := columns.count(name)) > 1:
            raise TaskError(f"{file} has {times} columns {name!r}; rename all but the one to read")
    if len(columns) > 1 or columns[0] in used:
        return
    for mark in MARKS:
        if used & {cell.strip('"') for cell in columns[0].split(mark)}:
            raise TaskError(other_mark(file, mark, "commas (.csv) or tabs (.tsv)"))


def _parquet_records(task: Task, file: Path) -> Iterator[Record]:
    from tamtctl.data.parquet_rows import class_names, open_parquet, rows_of, with_names

    with open_parquet(file, TaskError) as parquet:
        names = Counter(parquet.schema_arrow.names)
        if twice := [name for name, times in names.items() if times > 1]:
            raise TaskError(
                f"{file} has {names[twice[0]]} columns {twice[0]!r}; rename all but the one to read"
            )
        named = {} if task.is_public else class_names(parquet)
        for number, row in enumerate(rows_of(parquet)):
            yield (
                f"{file} row {number}",
                {**row, **{column: with_names(row[column], named[column]) for column in named}},
            )
