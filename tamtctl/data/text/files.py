"""Text in files: plain or packed, lines or blocks, JSON lines, CSV, Parquet."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tamtctl.data.text.column import Record, Sample, listed
from tamtctl.data.text.documents import Document, Source, holds_text
from tamtctl.data.text.folder import files_below
from tamtctl.data.text.reading import read_jsonl, read_lines, reading
from tamtctl.data.text.tables import is_number, read_csv
from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.working import counted

if TYPE_CHECKING:
    import pyarrow.parquet as pq

TEXT_SUFFIXES = frozenset({"", ".txt", ".text", ".md", ".raw", ".tokens"})
KINDS = ".txt, .md, .jsonl, .csv (plain, .gz or .xz) or .parquet"
KINDS_IN_FOLDERS = ".txt, .md, .jsonl (plain, .gz or .xz) or .parquet"

# Bytes of the longest document. Endless lines or blocks must not fill the memory: a longer line is
# cut at a space, a longer block between two lines.
LONGEST_DOCUMENT = 2**20

STRINGS = ("string", "large_string", "string_view")  # types of columns in Hub datasets


def is_file_name(path: Path) -> bool:
    """Return whether a path looks like that of a file with text."""
    return bool(path.suffix) and _kind(path) is not None


def _kind(path: Path) -> str | None:
    """Return ``text``, ``jsonl``, ``csv`` or ``parquet``; None for a file of another kind."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        return "parquet"
    suffix = Path(name.removesuffix(".gz").removesuffix(".xz")).suffix
    if suffix in (".jsonl", ".csv"):
        return suffix[1:]
    return "text" if suffix in TEXT_SUFFIXES else None


def text_files(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the file, or all readable files below a folder, and notes on files left out."""
    if path.is_file():
        if _kind(path) is None:
            raise CorpusError(f"{path} is of no kind that can be read: use {KINDS}")
        return [path], ()
    if not path.is_dir():
        what = "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
        raise CorpusError(f"{path} is {what}")
    # CSV files in a folder of texts are rarely texts; one is read only if it is named itself.
    files, left_out = files_below(path, lambda file: _kind(file) not in (None, "csv"))
    if not files:
        raise CorpusError(
            f"no text in the folder {path}: it needs files of the kinds {KINDS_IN_FOLDERS}"
            + (f" ({left_out})" if left_out else "")
        )
    return files, (left_out,) if left_out else ()


def text_of_file(path: Path, text_column: str | None) -> Source:
    """Return the source of one file.

    Raises:
        CorpusError: The file cannot be read.
    """
    kind = _kind(path)
    with reading(path):
        content = file_sha256(path)
    compression = path.suffix.lower() if path.suffix.lower() in {".gz", ".xz"} else ""
    skipped: Counter[str] = Counter()
    documents = {
        "text": partial(_text_documents, path),
        "jsonl": partial(_jsonl_documents, path, text_column, skipped),
        "csv": partial(_csv_documents, path, text_column),
        "parquet": partial(_parquet_documents, path, text_column),
    }[cast("str", kind)]
    return Source(str(path), f"{kind}{compression} {content}", documents, skipped=skipped)


def _text_documents(path: Path) -> Iterator[Document]:
    """Yield blocks between blank lines if the first megabyte has several, else lines."""
    lines = read_lines(path, LONGEST_DOCUMENT)
    head, size = [], 0
    for line in lines:
        head.append(line)
        size += len(line) + 1
        if size >= LONGEST_DOCUMENT:
            break
    blocks = sum(has_some for has_some, _ in itertools.groupby(head, holds_text))
    texts = itertools.chain(head, lines)
    for text in _blocks(texts) if blocks > 1 else filter(holds_text, texts):
        yield Document(text, text)


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    block: list[str] = []
    size = 0
    for line in lines:
        has_some = holds_text(line)
        if block and (not has_some or size + len(line) > LONGEST_DOCUMENT):
            yield "\n".join(block)
            block, size = [], 0
        if has_some:
            block.append(line)
            size += len(line) + 1
    if block:
        yield "\n".join(block)


def _jsonl_documents(
    path: Path, text_column: str | None, skipped: Counter[str]
) -> Iterator[Document]:
    records = read_jsonl(path)
    sample = Sample.of(records)
    if sample.records:
        column = sample.text_column(text_column)
        counter = None if text_column is None else skipped
        yield from record_documents(itertools.chain(sample.records, records), column, counter)


def _csv_documents(path: Path, text_column: str | None) -> Iterator[Document]:
    """Yield a document for each row; columns of numbers do not count as text."""
    typed = (
        (place, {name: None if is_number(cell) else cell for name, cell in row.items()})
        for place, row in read_csv(path)
    )
    sample = Sample.of(typed)
    if sample.records:
        yield from record_documents(read_csv(path), sample.text_column(text_column), None)


def _parquet_documents(path: Path, text_column: str | None) -> Iterator[Document]:
    from tamtctl.data.parquet_rows import open_parquet, rows_of

    with open_parquet(path, CorpusError) as file:
        if not file.metadata.num_rows:  # as some shards have, then without columns
            return
        column = _parquet_column(file, text_column, str(path))
        count = file.metadata.num_rows
        rows = enumerate(counted(rows_of(file, [column]), f"reading {path.name}", count))
        records = ((f"{path} row {number}", row) for number, row in rows)
        yield from record_documents(records, column, None)


def _parquet_column(file: pq.ParquetFile, text_column: str | None, place: str) -> str:
    """Choose the column by the schema, and by the values of the first rows."""
    from tamtctl.data.parquet_rows import holds_strings, rows_of

    types = {field.name: field.type for field in file.schema_arrow}
    first: Iterator[Mapping[str, Any]] = iter([dict.fromkeys(types)])
    if text_column is None:  # columns of numbers or images are not read
        wanted = [name for name, kind in types.items() if _may_hold_text(kind)]
        first = itertools.chain(first, rows_of(file, wanted))
    declared = [name for name, kind in types.items() if holds_strings(kind)]
    sample = Sample.of(((place, row) for row in first), declared)
    return sample.text_column(text_column)


def _may_hold_text(kind: Any) -> bool:
    import pyarrow as pa

    from tamtctl.data.parquet_rows import holds_strings

    return holds_strings(kind) or pa.types.is_nested(kind)


def record_documents(
    records: Iterable[Record], column: str, skipped: Counter[str] | None
) -> Iterator[Document]:
    """Yield the documents of records, which come with their place in the text.

    Args:
        records: The records.
        column: The column that holds the text.
        skipped: Counts records without this column, which are skipped; None: they are refused.
    """
    for place, record in records:
        if column not in record:
            if skipped is None:
                raise CorpusError(
                    f"{place} has no column {column!r}, but {listed(record)}; to leave such "
                    f"records out, give --text-column {column}"
                )
            skipped[column] += 1
            continue
        if record[column] is None:
            continue
        text = _checked(record[column], f"{place}, column {column!r},")
        if holds_text(text):
            yield Document(text, text)


def _checked(text: object, place: str) -> str:
    if not isinstance(text, str):
        raise CorpusError(f"{place} is not a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{place} is not valid Unicode (half a surrogate pair)") from error
    return text.replace("\r\n", "\n")
