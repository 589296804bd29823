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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from tamtctl.digests import file_sha256
from tamtctl.errors import CorpusError
from tamtctl.hub_commits import dataset_commit
from tamtctl.paths import expanded

if TYPE_CHECKING:
    import datasets

PYTHON_DOCS = "python-docs"
TEXT_SUFFIXES = frozenset({"", ".txt", ".text", ".md", ".raw", ".tokens"})
KINDS = ".txt, .md, .jsonl (plain, .gz or .xz) or .parquet"

# Plain text that never ends (one line, or no blank line) must not fill the memory: a longer line
# is cut at a space and a longer block between two lines.
LONGEST_DOCUMENT = 2**20

# Documents of a stream that are held in memory to draw the next one from.
_SHUFFLED_TOGETHER = 10_000

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
    """

    name: str
    digest: str
    documents: Callable[[], Iterator[Document]]
    held_out: Callable[[], Iterator[Document]] | None = None
    share: Callable[[int, int, int, int], Iterator[Document]] | None = None


def open_source(source: str, text_column: str | None = None) -> list[Source]:
    """Find the text that ``source`` names; nothing but digests is computed yet.

    Args:
        source: ``python-docs``, a file, a folder of files, or a Hub dataset ``id[:config]``.
        text_column: Where the records of JSON-lines, Parquet and Hub datasets hold their text;
            by default ``text``, else the only column of strings.

    Raises:
        CorpusError: Nothing readable is called that.
    """
    if source == PYTHON_DOCS:
        return [_python_docs()]
    path = expanded(source)
    if source.strip() and os.path.lexists(path):
        return [_file(file, text_column) for file in _files(path)]
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
        digests = [opened.digest for opened in open_source(source)]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()
    matched = _HUB_ID.fullmatch(source)
    if matched and not _is_file_name(path):
        with _hub_errors(source):
            return dataset_commit(matched["id"])
    raise _nothing_called(source)


def _nothing_called(source: str) -> CorpusError:
    return CorpusError(
        f"{source!r} is no file or folder here, nor a Hub dataset id (owner/name[:config]); "
        f"check the path, or use {PYTHON_DOCS}"
    )


def _python_docs() -> Source:
    from tamtctl import python_docs  # only this source needs it

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


def _files(path: Path) -> list[Path]:
    """Return the file itself, or all readable files below a folder, sorted, hidden ones skipped."""
    if path.is_file():
        if _kind(path) is None:
            raise CorpusError(f"{path} is of no kind that can be read: use {KINDS}")
        return [path]
    if not path.is_dir():
        raise CorpusError(f"{path} is neither a file nor a folder")
    found: list[Path] = []
    for folder, subfolders, names in os.walk(path, onerror=_raise_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    files = sorted(file for file in found if file.is_file() and _kind(file))
    if not files:
        raise CorpusError(f"no text in the folder {path}: it needs files of the kinds {KINDS}")
    return files


def _raise_unreadable(error: OSError) -> None:
    raise CorpusError(f"cannot read {error.filename}: {error.strerror}") from error


def _file(path: Path, text_column: str | None) -> Source:
    kind = _kind(path)
    with reading(path):
        content = file_sha256(path)
    compression = path.suffix.lower() if path.suffix.lower() in {".gz", ".xz"} else ""
    documents = {
        "text": partial(_text_documents, path),
        "jsonl": partial(_jsonl_documents, path, text_column),
        "parquet": partial(_parquet_documents, path, text_column),
    }[cast("str", kind)]
    return Source(str(path), f"{kind}{compression} {content}", documents)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what can go wrong while a file is read into a CorpusError."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading its bytes, unpacked if it is gz or xz."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if suffix == ".xz":
        return cast("BinaryIO", lzma.open(path, "rb"))
    return path.open("rb")


def read_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Read lines without their ends; lines of more than ``longest`` bytes are cut at a space."""
    for line in read_whole_lines(path, longest):
        yield line.removesuffix("\n").removesuffix("\r")


def read_whole_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Read lines with their ends, otherwise as `read_lines` does."""
    offset, rest = 0, b""
    with reading(path), open_binary(path) as file:
        while raw := rest + file.readline(longest - len(rest) if longest > 0 else -1):
            rest = b""
            if len(raw) == longest and not raw.endswith(b"\n"):
                cut = raw.rfind(b" ") + 1 or _last_character(raw)
                raw, rest = raw[:cut], raw[cut:]
            line = _decode(raw, path, offset)
            offset += len(raw)
            yield line


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


def _jsonl_documents(path: Path, text_column: str | None) -> Iterator[Document]:
    return _record_documents(read_jsonl(path), text_column)


def read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every record of a JSON-lines file with the place it is from, ``file:line``."""
    for number, line in enumerate(read_lines(path), start=1):
        if not _is_text(line):
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path}:{number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise CorpusError(f"{path}:{number} is not a JSON object")
        yield f"{path}:{number}", record


def _parquet_documents(path: Path, text_column: str | None) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            fields = {field.name: field.type for field in file.schema_arrow}
            strings = {name for name, kind in fields.items() if _holds_strings(kind)}
            column = _choose_column(list(fields), strings, text_column, str(path))
            batches = file.iter_batches(batch_size=1024, columns=[column])
            texts = itertools.chain.from_iterable(batch[column].to_pylist() for batch in batches)
            records = ((f"{path} row {row}", {column: text}) for row, text in enumerate(texts))
            yield from _record_documents(records, column)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{path} is not a readable Parquet file: {reason}") from error


def _holds_strings(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _record_documents(
    records: Iterable[tuple[str, Mapping[str, Any]]], text_column: str | None
) -> Iterator[Document]:
    """Turn records, each with the place it is from, into documents; the first one decides."""
    column = None
    for place, record in records:
        if column is None:
            strings = {name for name, value in record.items() if isinstance(value, str)}
            column = _choose_column(list(record), strings, text_column, place)
        if column not in record:
            raise CorpusError(f"{place} has no column {column!r}, but {_listed(list(record))}")
        if record[column] is None:
            continue
        text = _checked(record[column], f"{place}, column {column!r},")
        if _is_text(text):
            yield Document(text, text)


def _choose_column(columns: list[str], strings: set[str], wanted: str | None, place: str) -> str:
    if wanted is not None:
        if wanted not in columns:
            raise CorpusError(f"{place} has no column {wanted!r}, but {_listed(columns)}")
        return wanted
    if "text" in columns:
        return "text"
    if len(strings) == 1:
        return next(iter(strings))
    raise CorpusError(
        f"{place} has no column 'text', but {_listed(columns)}; name one with --text-column"
    )


def _listed(columns: list[str]) -> str:
    return ", ".join(map(repr, columns)) or "no columns at all"


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
        revision = dataset_commit(repo_id)
        splits = datasets.load_dataset(repo_id, config, revision=revision, streaming=True)
    if "train" not in splits:
        raise CorpusError(f"the dataset {name} has no split 'train', but {_listed(list(splits))}")
    held_out = splits.get("validation")
    return Source(
        name=name,
        digest=f"{repo_id}:{config or ''}@{revision}",
        documents=partial(_dataset_documents, name, splits["train"], text_column),
        held_out=held_out and partial(_dataset_documents, name, held_out, text_column),
        share=partial(_dataset_share, name, splits["train"], text_column),
    )


def _dataset_documents(
    name: str, dataset: datasets.IterableDataset, text_column: str | None
) -> Iterator[Document]:
    with _hub_errors(name, is_found=True):
        records = ((f"{name} row {row}", record) for row, record in enumerate(dataset))
        yield from _record_documents(records, text_column)


def _dataset_share(
    name: str,
    dataset: datasets.IterableDataset,
    text_column: str | None,
    seed: int,
    epoch: int,
    share: int,
    shares: int,
) -> Iterator[Document]:
    """Read a share: of the files, where they can be shared evenly, else of the rows."""
    from datasets.distributed import split_dataset_by_node

    shuffled = dataset.shuffle(seed=seed, buffer_size=_SHUFFLED_TOGETHER)
    shuffled.set_epoch(epoch)
    return _dataset_documents(name, split_dataset_by_node(shuffled, share, shares), text_column)


@contextmanager
def _hub_errors(name: str, *, is_found: bool = False) -> Iterator[None]:
    """Whatever goes wrong out there becomes one line that says what to use instead."""
    from huggingface_hub import errors

    # Its HTTP library's base class, which it imports for the purpose but does not list.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    instead = f"use {PYTHON_DOCS} or a local file"
    try:
        yield
    except CorpusError:
        raise
    except errors.GatedRepoError as error:
        raise CorpusError(
            f"the dataset {name} is gated: accept its terms on the Hub and `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CorpusError(
            f"no file or folder {name!r} here, and no such dataset on the Hub "
            "(a private one needs `hf auth login`)"
        ) from error
    except (http_error, ConnectionError, TimeoutError) as error:
        if is_found:
            raise CorpusError(
                f"lost the connection to the Hub while reading the dataset {name}; try again"
            ) from error
        raise CorpusError(
            f"no file or folder {name!r} here, and no network to the Hub to look there; {instead}"
        ) from error
    except Exception as error:  # a dataset can fail in as many ways as there are formats
        reason = " ".join(str(error).split())[:300]
        raise CorpusError(f"cannot read the dataset {name}: {reason}; {instead}") from error
