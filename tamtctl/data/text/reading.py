"""Reading lines and records of untrusted files, plain or compressed, with bounded memory."""

from __future__ import annotations

import codecs
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from tamtctl.data.text.documents import holds_text
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.working import work

_PACKED = (b"\x1f\x8b", b"\xfd7zXZ")  # the first bytes of gz and xz
LONGEST_LINE = 2**26  # most bytes of a record, since a record cannot be cut


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading a file within this context into a CorpusError."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


def open_binary(path: Path, raw: BinaryIO) -> BinaryIO:
    """Return a file object that reads the bytes of an open file, unpacked if it is gz or xz."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("BinaryIO", gzip.open(raw, "rb"))
    if suffix == ".xz":
        return cast("BinaryIO", lzma.open(raw, "rb"))
    return raw


def read_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Yield lines without line ends; lines of more than ``longest`` bytes are cut at a space."""
    for number, line in enumerate(read_whole_lines(path, longest)):
        if number == 0 and "\n" not in line and line.count("\r") > 1:
            raise CorpusError(
                f"{path} ends its lines with CR alone; convert it, for example with tr '\\r' '\\n'"
            )
        yield line.removesuffix("\n").removesuffix("\r")


def read_whole_lines(path: Path, longest: int = -1) -> Iterator[str]:
    """Yield lines with line ends, otherwise as `read_lines` does."""
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
    """Report progress through a file; yields a function to be called now and then."""
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
    """Return where the last character starts, so that a cut does not split a character."""
    starts = (i for i in range(len(raw) - 1, len(raw) - 5, -1) if raw[i] & 0xC0 != 0x80)
    return next(starts, len(raw))


def _decode(raw: bytes, path: Path, offset: int) -> str:
    if offset == 0 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError(
            f"{path} is UTF-16, not UTF-8; convert it, for example with iconv -f UTF-16 -t UTF-8"
        )
    if offset == 0 and raw.startswith(_PACKED):
        raise CorpusError(f"{path} is compressed; name it .gz or .xz, as it is")
    if (nul := raw.find(b"\0")) >= 0:
        raise CorpusError(f"{path} is a binary file (a zero at byte {offset + nul}), not text")
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        is_packed = path.suffix.lower() in (".gz", ".xz")  # the checksum comes only at the end
        instead = "fetch it again if it is damaged, or convert it" if is_packed else "convert it"
        raise CorpusError(
            f"{path} is not UTF-8 (byte {offset + error.start}); {instead}, for example with iconv"
        ) from error
    return line.removeprefix("\ufeff") if offset == 0 else line


def read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (``file:line``, record) for every record of a JSON-lines file."""
    for number, line in enumerate(read_lines(path), start=1):
        yield from read_json_record(f"{path}:{number}", line)


def _once_each(place: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; refuse a name that it has twice, as readers differ on its value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CorpusError(f"{place} has {twice!r} twice in one object; leave out all but one")
    return found


def read_json_record(place: str, line: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, record) for one line; nothing if the line is blank."""
    if not holds_text(line):
        return
    try:
        record = json.loads(line, object_pairs_hook=partial(_once_each, place))
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{place} is not a JSON object")
    yield place, record
