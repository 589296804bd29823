"""Text sources: everything a user can name as a corpus, read as a stream of documents.

A *document* is the unit of the split into training and held-out text: a page of the Python
documentation, a record of a JSON-lines file, Parquet file or Hub dataset, and in a plain text
file a block of lines between blank lines, or a line where the file has no blank lines.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import lzma
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from tamtctl.data.text.column import Record, Sample, listed
from tamtctl.data.text.folder import files_below
from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.hub_commits import dataset_commit
from tamtctl.foundations.inputs import with_files
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.working import counted, work

if TYPE_CHECKING:
    import datasets
    import pyarrow.parquet as pq

PYTHON_DOCS = "python-docs"
TEXT_SUFFIXES = frozenset({"", ".txt", ".text", ".md", ".raw", ".tokens"})
KINDS = ".txt, .md, .jsonl (plain, .gz or .xz) or .parquet"

# Plain text that never ends (one line, or no blank line) must not fill the memory: a longer line
# is cut at a space and a longer block between two lines.
LONGEST_DOCUMENT = 2**20
LONGEST_LINE = 2**26  # bytes of a record, which cannot be cut

# Documents of a stream that are held in memory to draw the next one from.
_SHUFFLED_TOGETHER = 10_000

_STRINGS = ("string", "large_string", "string_view")  # as the types of a dataset's columns

_HUB_ID = re.compile(r"(?P<id>\w[\w.-]*(/[\w.-]+)?)(:(?P<config>\S+))?")


class Document(NamedTuple):
    """A text of one or more lines, and the key whose hash says on which side of the split it is."""

    key: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.text.split("\n") if _is_text(line)]


@dataclass(frozen=True)
class Source:
    """One text that can be read again and again.

    Attributes:
        name: What the user called it.
        digest: Identifies the content: equal digests, equal documents.
        documents: Reads the documents from the start.
        held_out: Reads the held-out documents, where the source brings its own.
        share: Reads one of several shares of the documents (seed, epoch, number of the share from
            0, number of shares), in an order that seed and epoch shuffle; where a source can.
        notes: Lines that a person should know of what is not read.
        is_whole: All of it is held out.
        skipped: Counts, while documents are read, the records that lack the column asked for.
    """

    name: str
    digest: str
    documents: Callable[[], Iterator[Document]]
    held_out: Callable[[], Iterator[Document]] | None = None
    share: Callable[[int, int, int, int], Iterator[Document]] | None = None
    notes: tuple[str, ...] = ()
    is_whole: bool = False
    skipped: Counter[str] = field(default_factory=Counter, compare=False)

    def held_out_whole(self) -> Source:
        """Return the same text with all of its documents held out."""
        nothing: tuple[Document, ...] = ()
        return replace(
            self,
            digest=f"whole {self.digest}",
            documents=lambda: iter(nothing),
            held_out=self.documents,
            share=None,
            is_whole=True,
        )


def open_source(source: str, text_column: str | None = None) -> list[Source]:
    """Find the text that ``source`` names; nothing but digests is computed yet.

    Args:
        source: ``python-docs``, a file, a folder of files, or a Hub dataset ``id[:config]``.
        text_column: Where the records of JSON-lines, Parquet and Hub datasets hold their text;
            records that lack it are skipped and counted. By default ``text``, else the only column
            of strings, as the first thousand records have them.

    Raises:
        CorpusError: Nothing readable is called that.
    """
    if source == PYTHON_DOCS:
        return [_python_docs()]
    path = expanded(source)
    if source.strip() and os.path.lexists(path):
        files, notes = _files(path)
        first, *others = (_file(file, text_column) for file in files)
        return [replace(first, notes=notes), *others]
    matched = _HUB_ID.fullmatch(source)
    if matched and not _is_file_name(path):
        return [_hub_dataset(source, matched["id"], matched["config"], text_column)]
    raise _nothing_called(source)


def source_digest(source: str) -> str:
    """Return what the text that ``source`` names hashes to, without reading it as text.

    Files count by their content, a Hub dataset by its commit.

    Raises:
        CorpusError: Nothing readable is called that.
    """
    path = expanded(source)
    if source == PYTHON_DOCS or (source.strip() and os.path.lexists(path)):
        files = open_source(source)
        digest = hashlib.sha256("\n".join(one.digest for one in files).encode()).hexdigest()
        names = {os.path.relpath(one.name, path): one.digest.split()[-1] for one in files}
        return with_files(digest, names)
    matched = _HUB_ID.fullmatch(source)
    if matched and not _is_file_name(path):
        with _hub_errors(source):
            return _dataset_commit(matched["id"])
    raise _nothing_called(source)


def _nothing_called(source: str) -> CorpusError:
    return CorpusError(
        f"{source!r} is no file or folder here, nor a Hub dataset id (owner/name[:config]); "
        f"check the path, or use {PYTHON_DOCS}"
    )


def _python_docs() -> Source:
    from tamtctl.data.text import python_docs  # only this source needs it

    pages = python_docs.documents()
    digest = hashlib.sha256()
    for page in pages:
        digest.update(json.dumps([page.name, page.text]).encode())
    return Source(
        name=PYTHON_DOCS,
        digest=digest.hexdigest(),
        documents=lambda: (Document(page.name, page.text) for page in pages),
    )


# --- files -----------------------------------------------------------------------------------


def _is_file_name(path: Path) -> bool:
    return bool(path.suffix) and _kind(path) is not None


def _kind(path: Path) -> str | None:
    """Return ``text``, ``jsonl`` or ``parquet``, or None for a file of any other kind."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        return "parquet"
    suffix = Path(name.removesuffix(".gz").removesuffix(".xz")).suffix
    if suffix == ".jsonl":
        return "jsonl"
    return "text" if suffix in TEXT_SUFFIXES else None


def _files(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the file itself, or all readable files below a folder, and what to know of others."""
    if path.is_file():
        if _kind(path) is None:
            raise CorpusError(f"{path} is of no kind that can be read: use {KINDS}")
        return [path], ()
    if not path.is_dir():
        what = "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
        raise CorpusError(f"{path} is {what}")
    files, left_out = files_below(path, lambda file: _kind(file) is not None)
    if not files:
        raise CorpusError(
            f"no text in the folder {path}: it needs files of the kinds {KINDS}"
            + (f" ({left_out})" if left_out else "")
        )
    return files, (left_out,) if left_out else ()


def _file(path: Path, text_column: str | None) -> Source:
    kind = _kind(path)
    with reading(path):
        content = file_sha256(path)
    compression = path.suffix.lower() if path.suffix.lower() in {".gz", ".xz"} else ""
    skipped: Counter[str] = Counter()
    documents = {
        "text": partial(_text_documents, path),
        "jsonl": partial(_jsonl_documents, path, text_column, skipped),
        "parquet": partial(_parquet_documents, path, text_column),
    }[cast("str", kind)]
    return Source(str(path), f"{kind}{compression} {content}", documents, skipped=skipped)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what can go wrong while a file is read into a CorpusError."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


def open_binary(path: Path, raw: BinaryIO) -> BinaryIO:
    """Return an open file for reading its bytes, unpacked if it is gz or xz."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("BinaryIO", gzip.open(raw, "rb"))
    if suffix == ".xz":
        return cast("BinaryIO", lzma.open(raw, "rb"))
    return raw


def read_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Read lines without their ends; lines of more than ``longest`` bytes are cut at a space."""
    for line in read_whole_lines(path, longest):
        yield line.removesuffix("\n").removesuffix("\r")


def read_whole_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Read lines with their ends, otherwise as `read_lines` does."""
    offset, rest = 0, b""
    with (
        reading(path),
        path.open("rb") as packed,
        open_binary(path, packed) as file,
        _position(path, packed) as tell,
    ):
        while raw := rest + file.readline(longest - len(rest) if longest > 0 else LONGEST_LINE):
            if longest <= 0 and len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                raise CorpusError(f"{path} has a line of more than {LONGEST_LINE} bytes; cut it up")
            rest = b""
            if len(raw) == longest and not raw.endswith(b"\n"):
                cut = raw.rfind(b" ") + 1 or _last_character(raw)
                raw, rest = raw[:cut], raw[cut:]
            line = _decode(raw, path, offset)
            offset += len(raw)
            yield line
            tell()


@contextmanager
def _position(path: Path, packed: BinaryIO) -> Iterator[Callable[[], None]]:
    """Tell how much of a file is read; yields what is to be called every now and then."""
    size = path.stat().st_size if path.is_file() else None  # a pipe has none
    told = 0
    with work(f"reading {path.name}", size, unit="B") as advance:

        def tell() -> None:
            nonlocal told
            if size and (read := packed.tell()) != told:
                advance(read - told)
                told = read

        yield tell


def _last_character(raw: bytes) -> int:
    """Return where the last character starts, so that no character is cut in two."""
    starts = (i for i in range(len(raw) - 1, len(raw) - 5, -1) if raw[i] & 0xC0 != 0x80)
    return next(starts, len(raw))


def _decode(raw: bytes, path: Path, offset: int) -> str:
    if (nul := raw.find(b"\0")) >= 0:
        raise CorpusError(f"{path} is a binary file (a zero at byte {offset + nul}), not text")
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8 (byte {offset + error.start}); convert it, for example with iconv"
        ) from error
    return line.removeprefix("\ufeff") if offset == 0 else line


def _text_documents(path: Path) -> Iterator[Document]:
    """Blocks between blank lines if the first megabyte has such blocks, else lines."""
    lines = read_lines(path, LONGEST_DOCUMENT)
    head, size = [], 0
    for line in lines:
        head.append(line)
        size += len(line) + 1
        if size >= LONGEST_DOCUMENT:
            break
    blocks = sum(is_text for is_text, _ in itertools.groupby(head, _is_text))
    texts = itertools.chain(head, lines)
    for text in _blocks(texts) if blocks > 1 else filter(_is_text, texts):
        yield Document(text, text)


def _is_text(line: str) -> bool:
    return bool(line) and not line.isspace()


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    block: list[str] = []
    size = 0
    for line in lines:
        is_text = _is_text(line)
        if block and (not is_text or size + len(line) > LONGEST_DOCUMENT):
            yield "\n".join(block)
            block, size = [], 0
        if is_text:
            block.append(line)
            size += len(line) + 1
    if block:
        yield "\n".join(block)


# --- records ---------------------------------------------------------------------------------


def _jsonl_documents(
    path: Path, text_column: str | None, skipped: Counter[str]
) -> Iterator[Document]:
    records = read_jsonl(path)
    sample = Sample.of(records)
    if sample.records:
        column = sample.text_column(text_column)
        counter = None if text_column is None else skipped
        yield from _record_documents(itertools.chain(sample.records, records), column, counter)


def read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every record of a JSON-lines file with the place it is from, ``file:line``."""
    for number, line in enumerate(read_lines(path), start=1):
        yield from read_json_record(f"{path}:{number}", line)


def read_json_record(place: str, line: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the record of a line with its place, nothing if the line is blank."""
    if not _is_text(line):
        return
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{place} is not a JSON object")
    yield place, record


def _parquet_documents(path: Path, text_column: str | None) -> Iterator[Document]:
    from tamtctl.data.parquet_rows import open_parquet, rows_of

    with open_parquet(path, CorpusError) as file:
        column = _parquet_column(file, text_column, str(path))
        count = file.metadata.num_rows
        rows = enumerate(counted(rows_of(file, [column]), f"reading {path.name}", count))
        records = ((f"{path} row {number}", row) for number, row in rows)
        yield from _record_documents(records, column, None)


def _parquet_column(file: pq.ParquetFile, text_column: str | None, place: str) -> str:
    """Choose the column by the schema, and by the values of the first rows."""
    from tamtctl.data.parquet_rows import holds_strings, rows_of

    types = {field.name: field.type for field in file.schema_arrow}
    first: Iterator[Mapping[str, Any]] = iter([dict.fromkeys(types)])
    if text_column is None:  # numbers and pictures are not looked at
        wanted = [name for name, kind in types.items() if _may_hold_text(kind)]
        first = itertools.chain(first, rows_of(file, wanted))
    declared = [name for name, kind in types.items() if holds_strings(kind)]
    sample = Sample.of(((place, row) for row in first), declared)
    return sample.text_column(text_column)


def _may_hold_text(kind: Any) -> bool:
    import pyarrow as pa

    from tamtctl.data.parquet_rows import holds_strings

    return holds_strings(kind) or pa.types.is_nested(kind)


def _record_documents(
    records: Iterable[Record], column: str, skipped: Counter[str] | None
) -> Iterator[Document]:
    """Turn records, each with the place it is from, into documents.

    Args:
        records: The records.
        column: Which holds the text.
        skipped: Counts the records that lack it; None: they are refused.
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
        if _is_text(text):
            yield Document(text, text)


def _checked(text: object, place: str) -> str:
    if not isinstance(text, str):
        raise CorpusError(f"{place} is not a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{place} is not valid Unicode (half a surrogate pair)") from error
    return text.replace("\r\n", "\n")


# --- Hub datasets ----------------------------------------------------------------------------


def _hub_dataset(name: str, repo_id: str, config: str | None, text_column: str | None) -> Source:
    import datasets

    with _hub_errors(name):
        revision = _dataset_commit(repo_id)
        splits = datasets.load_dataset(repo_id, config, revision=revision, streaming=True)
    if "train" not in splits:
        raise CorpusError(f"the dataset {name} has no split 'train', but {listed(splits)}")

    @cache  # every share, and what is held out, has the column of the whole
    def column() -> str:
        return _dataset_column(name, splits["train"], text_column)

    held_out = splits.get("validation")
    skipped: Counter[str] = Counter()
    read = partial(_dataset_documents, name, column, None if text_column is None else skipped)
    return Source(
        name=name,
        digest=f"{repo_id}:{config or ''}@{revision}",
        documents=partial(read, splits["train"]),
        held_out=held_out and partial(read, held_out),
        share=partial(_dataset_share, read, splits["train"]),
        skipped=skipped,
    )


def _dataset_column(name: str, dataset: datasets.IterableDataset, text_column: str | None) -> str:
    with _hub_errors(name, is_found=True):
        features = dataset.features or {}
        declared = [n for n, f in features.items() if getattr(f, "dtype", "") in _STRINGS]
        sample = Sample.of(((name, record) for record in dataset), declared)
        return sample.text_column(text_column) if sample.records else text_column or "text"


def _dataset_commit(repo_id: str) -> str:
    from tamtctl.foundations.hub_requests import HubRequests

    return HubRequests(repo_id, kind="dataset").ask(lambda: dataset_commit(repo_id))


def _dataset_documents(
    name: str,
    column: Callable[[], str],
    skipped: Counter[str] | None,
    dataset: datasets.IterableDataset,
) -> Iterator[Document]:
    chosen = column()
    with _hub_errors(name, is_found=True):
        records = ((f"{name} row {row}", record) for row, record in enumerate(dataset))
        yield from _record_documents(records, chosen, skipped)


def _dataset_share(
    read: Callable[[datasets.IterableDataset], Iterator[Document]],
    dataset: datasets.IterableDataset,
    seed: int,
    epoch: int,
    share: int,
    shares: int,
) -> Iterator[Document]:
    """Read a share: of the files, where they can be shared evenly, else of the rows."""
    from datasets.distributed import split_dataset_by_node

    shuffled = dataset.shuffle(seed=seed, buffer_size=_SHUFFLED_TOGETHER)
    shuffled.set_epoch(epoch)
    return read(split_dataset_by_node(shuffled, share, shares))


@contextmanager
def _hub_errors(name: str, *, is_found: bool = False) -> Iterator[None]:
    """Whatever goes wrong out there becomes one line that says what to use instead."""
    from tamtctl.foundations.hub_requests import HubRequests, MissingRepoError, UnreachableError

    instead = f"use {PYTHON_DOCS} or a local file"
    try:
        yield
    except CorpusError:
        raise
    except Exception as error:  # a dataset can fail in as many ways as there are formats
        hub_error = HubRequests(name.split(":")[0], kind="dataset").explained(error)
        match hub_error:
            case None:
                reason = " ".join(str(error).split())[:300]
                line = f"cannot read the dataset {name}: {reason}; {instead}"
            case _ if is_found:
                line = f"lost the Hub while reading the dataset {name}: {hub_error}"
            case MissingRepoError():
                line = (
                    f"no file or folder {name!r} here, and no such dataset on the Hub "
                    "(a private one needs `hf auth login`)"
                )
            case UnreachableError():
                line = (
                    f"no file or folder {name!r} here, and no network to the Hub to look there: "
                    f"{hub_error}; {instead}"
                )
            case _:
                line = f"no file or folder {name!r} here, and {hub_error}; {instead}"
        raise CorpusError(line) from error
