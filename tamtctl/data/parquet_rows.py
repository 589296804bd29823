"""Reading Parquet files row by row, with values that are stored once held in memory once.

A column of few distinct values is stored as a dictionary, so that a file of some kilobytes can
repeat a megabyte of text a million times. Reading all rows at once, or copying values, would fill
the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamtctl.foundations.errors import TamtctlError

_ROWS_AT_ONCE = 1024
_BYTES_AT_ONCE = 2**24
_LARGE = 2**28  # bytes of a column in one row group
_BEST_RATIO = 200  # highest compression ratio of real text, beyond what the dictionary saves


@contextmanager
def open_parquet(path: Path, error: type[TamtctlError]) -> Iterator[pq.ParquetFile]:
    """Open a file, whatever its name, and check the unpacked size that its columns claim.

    Args:
        path: The file.
        error: The class of error to raise.

    Raises:
        TamtctlError: As ``error``, here or inside the block: the file is not readable as Parquet.
    """
    try:
        with path.open("rb") as raw:
            names = [field.name for field in pq.read_schema(raw) if holds_strings(field.type)]
            raw.seek(0)
            with pq.ParquetFile(raw, read_dictionary=names) as file:
                _check_sizes(file, path, error)
                yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        reason = " ".join(str(problem).split())
        raise error(f"{path} is not a readable Parquet file: {reason}") from problem


def holds_strings(kind: Any) -> bool:
    """Return whether a column of this type holds strings."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def rows_of(
    file: pq.ParquetFile, columns: Sequence[str] | None = None
) -> Iterator[Mapping[str, Any]]:
    """Yield column → value for each row, of all columns or of some."""
    for batch in file.iter_batches(batch_size=_batch_size(file), columns=columns):
        values = [_values(column) for column in batch.columns]
        for row in zip(*values, strict=True) if values else ((),) * len(batch):
            yield dict(zip(batch.schema.names, row, strict=True))


def class_names(file: pq.ParquetFile) -> dict[str, list[str]]:
    """Return column → names of its classes, where the library datasets wrote their numbers.

    Its ``ClassLabel``, alone or in a list, is a column of numbers; the names are in the metadata.
    """
    try:
        said = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        features = said["info"]["features"]
        named = {column: facts.get("feature") or facts for column, facts in features.items()}
        found = {column: facts.get("names") for column, facts in named.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        column: names
        for column, names in found.items()
        if column in file.schema_arrow.names and isinstance(names, list)
        if names and all(isinstance(name, str) for name in names)
    }


def with_names(value: Any, names: Sequence[str]) -> Any:
    """Return a cell with the name of a class for its number, or for each number of a list."""
    if isinstance(value, list):
        return [with_names(one, names) for one in value]
    is_number = isinstance(value, int) and 0 <= value < len(names)  # -1: not known
    return names[value] if is_number else value


def _values(column: Any) -> Iterator[Any]:
    """Yield a column's values; repeated ones are the same object."""
    if not pa.types.is_dictionary(column.type):
        yield from (value.as_py() for value in column)
        return
    seen: dict[int | None, Any] = {None: None}
    for index in column.indices.to_pylist():
        if index not in seen:
            seen[index] = column.dictionary[index].as_py()
        yield seen[index]


def _batch_size(file: pq.ParquetFile) -> int:
    """Return how many rows to read at once: fewer if they are long."""
    groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
    longest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    return max(1, min(_ROWS_AT_ONCE, int(_BYTES_AT_ONCE / max(longest, 1))))


def _check_sizes(file: pq.ParquetFile, path: Path, error: type[TamtctlError]) -> None:
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            size, stored = column.total_uncompressed_size, column.total_compressed_size
            if size > _LARGE and size > _BEST_RATIO * stored:
                raise error(
                    f"{path}: column {column.path_in_schema} unpacks {stored:,} bytes to {size:,}, "
                    "which no text does; write the file anew"
                )
