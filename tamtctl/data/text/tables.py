"""Reading CSV files row by row, with cells of any content."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tamtctl.data.text.reading import LONGEST_LINE, read_lines, read_whole_lines
from tamtctl.foundations.counts import count
from tamtctl.foundations.errors import CorpusError, TamtctlError

# Other separators that a file may have than its suffix says.
MARKS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


def csv_lines(file: Path) -> Iterator[str]:
    """Yield lines for the csv module: with line ends, of which a carriage return is one."""
    for line in read_whole_lines(file):
        yield from io.StringIO(line, newline="")


@contextmanager
def long_fields() -> Iterator[None]:
    """Raise the csv module's limit of cell length, which is global, within this context."""
    limit = csv.field_size_limit(LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def csv_rows(file: Path, error_type: type[TamtctlError]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, cells) for every row of a CSV file.

    Args:
        file: The file, plain or compressed.
        error_type: The class of error to raise if the file is no CSV.
    """
    rows = csv.reader(csv_lines(file), strict=True)
    while True:
        number = rows.line_num + 1
        try:
            with long_fields():
                cells = next(rows, None)
        except csv.Error as error:
            first = next(read_lines(file), "")
            if number == 1 and first.count(";") > first.count(","):
                raise error_type(other_mark(file, ";")) from error
            raise error_type(
                f"{file}:{number} is not CSV: {error}; a field with a comma, a quote or a line "
                "break stands in quotes, and a quote in it is written twice"
            ) from error
        if cells is None:
            return
        yield number, cells


def read_csv(file: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield (``file:line``, record) for every row of a CSV file.

    The first row names the columns; blank rows are skipped.

    Raises:
        CorpusError: The file is no CSV, or has rows of different lengths.
    """
    columns: list[str] = []
    for number, cells in csv_rows(file, CorpusError):
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = cells
            _check_header(file, columns)
        elif len(cells) != len(columns):
            raise CorpusError(
                f"{file}:{number} has {count(len(cells), 'column')}, not {len(columns)}; quote a "
                "field that holds a comma"
            )
        else:
            yield f"{file}:{number}", dict(zip(columns, cells, strict=True))


def _check_header(file: Path, columns: list[str]) -> None:
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise CorpusError(
            f"{file} has {columns.count(twice[0])} columns {twice[0]!r}; rename all but the one "
            "to read"
        )
    found = [mark for mark in MARKS if mark != "," and mark in columns[0]]
    if len(columns) == 1 and found:
        raise CorpusError(other_mark(file, found[0]))


def other_mark(file: Path, mark: str, usual: str = "commas") -> str:
    """Return the message for a table that has another separator than the usual one."""
    return f"{file} has its columns between {MARKS[mark]}; write it with {usual} between them"


def is_number(cell: str) -> bool:
    """Return whether a cell is a number or empty, and so no text."""
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True
