"""Folders of models as one compressed file, ``NAME.tar.zst``, and back.

Zeros take almost no room in it, wherever they lie in a matrix. Any tar that knows zstandard reads
the file. One that comes from a stranger is unpacked without trust: only plain files, inside the new
folder, and no more bytes than were allowed, so that a small file cannot fill the disk.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, cast

import zstandard

from tamtctl.foundations.checks import require
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.foundations.files import replacing_file
from tamtctl.foundations.folders import check_target, replacing
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import open_regular
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import reason, show

SUFFIX = ".tar.zst"
USUAL_LIMIT = 8.0  # GB that an archive may unpack to

_LEVEL = 3  # of zstandard; quick, and usual for transfers
_PIECE = 2**20
_MOST_WINDOW = 2**27  # bytes of memory that an archive may ask for
_MOST_FILES = 10_000
_LONGEST_NAME = 255
_CUT_OFF = "it ends too early"
_GB = 10**9


@dataclass(frozen=True)
class Archive:
    """A folder as one compressed file.

    Attributes:
        path: The file.
        bytes: Its size.
    """

    path: Path
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"path": str(self.path), "bytes": self.bytes}


@dataclass(frozen=True, repr=False)
class Unpacked(Shown):
    """What was unpacked.

    Attributes:
        path: The new folder.
        files: The number of its files.
        bytes: Their size.
        archive_bytes: The size of the archive.
    """

    path: Path
    files: int
    bytes: int
    archive_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"path": str(self.path)}


def archive_of(folder: Path | str) -> Path:
    """Return where `pack` puts the archive of a folder: beside it.

    Raises:
        UsageError: There is something already.
    """
    target, given = check_target(folder), expanded(folder)
    parent = given.parent if given.name == target.name else target.parent  # named as it was typed
    path = parent / (target.name + SUFFIX)
    if path.exists() or path.is_symlink():
        raise UsageError(f"{str(path)!r} is there already; give another --output-dir, or remove it")
    return path


def pack(folder: Path, path: Path) -> Archive:
    """Write a folder's files as an archive, which is the same whenever they are the same.

    Args:
        folder: The folder.
        path: The archive to write.

    Raises:
        ModelError: It cannot be written.
    """
    try:
        with (
            replacing_file(path) as raw,
            _compressor().stream_writer(raw, closefd=False) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            for file in sorted(one for one in folder.rglob("*") if one.is_file()):
                entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
                entry.size = file.stat().st_size
                entry.mode = 0o644
                with file.open("rb") as content:
                    archive.addfile(entry, content)
    except OSError as error:
        raise ModelError(f"cannot write {str(path)!r}: {reason(error)}") from error
    return Archive(path, path.stat().st_size)


def compressed_size(files: list[Path]) -> int:
    """Return the bytes that files have after compression, each by itself, as in an archive."""
    found = 0
    for file in files:
        packer = _compressor().compressobj()
        with file.open("rb") as content:
            while piece := content.read(_PIECE):
                found += len(packer.compress(piece))
        found += len(packer.flush())
    return found


def unpack(archive: Path | str, output_dir: Path | str, *, limit: float = USUAL_LIMIT) -> Unpacked:
    """Unpack what ``export --compress`` wrote, or a stranger's archive of the same form.

    Nothing is written outside the new folder. Whatever is wrong, no folder is left.

    Args:
        archive: A file that ends in ``.tar.zst``.
        output_dir: The folder to write; new or empty.
        limit: Gigabytes that the files may have together.

    Raises:
        UsageError: The limit is no positive number.
        ModelError: There is no such archive, it is damaged, it holds links, special files or paths
            that lead out of the folder, or it is larger than the limit.
        TicketError: The output folder is not empty, or cannot be written.

    Example:
        >>> packed = tamtctl.export("nano-0.9", "my-packed", compress=True)
        >>> tamtctl.unpack(packed.archive.path, "my-unpacked").bytes == packed.bytes
        True
    """
    require("limit", limit > 0, "above 0", limit)  # a NaN fails the comparison
    source = expanded(archive)
    with replacing(output_dir) as new:
        try:
            with open_regular(source) as raw:
                archive_bytes = source.stat().st_size
                reader = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).stream_reader(raw)
                stream = _Stream(reader, round(min(limit, 1e9) * _GB))
                with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as opened:
                    names = set(_files(opened, stream, new))
        except OSError as error:
            raise ModelError(f"cannot unpack {str(archive)!r}: {reason(error)}") from error
        except (tarfile.TarError, zstandard.ZstdError, ValueError, RecursionError) as error:
            raise ModelError(
                f"cannot unpack {str(archive)!r}: it is cut short, damaged, or no .tar.zst archive "
                f"({reason(error)}); fetch it again"
            ) from error
        except _Refused as error:
            raise ModelError(f"{str(archive)!r} is not unpacked: {error}") from error
        if not names:
            raise ModelError(f"{str(archive)!r} holds no files")
        written = sum((new / name).stat().st_size for name in names)
    return Unpacked(expanded(output_dir), len(names), written, archive_bytes)


class _Refused(Exception):  # noqa: N818, an error is what it becomes once the archive is known
    """Something in an archive that is not trusted."""


class _Stream(io.RawIOBase):
    """Decompressed bytes, which can be read once and skipped, up to a limit.

    Whoever parses an archive calls `read`, for headers alone. Headers that ask for much are a trap.
    """

    def __init__(self, reader: IO[bytes], limit: int) -> None:
        super().__init__()
        self._reader, self._limit, self._place = reader, limit, 0
        self._of_headers = 0  # bytes since the last entry
        self._last = b""

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._place

    def seek(self, place: int, whence: int = io.SEEK_SET, /) -> int:
        """Go on to a later place; what lies between is read, and counts."""
        if whence != io.SEEK_SET or place < self._place:
            raise _Refused("its parts are not in order")
        while self._place < place and self.content(place - self._place):
            pass
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes of headers, fewer only at the end."""
        self._of_headers += max(size, 0)
        if size < 0 or self._of_headers > _PIECE:
            raise _Refused("a header in it asks for more than any has")
        self._last = self.content(size)
        return self._last

    def content(self, size: int) -> bytes:
        """Return so many bytes of content, a megabyte at most; fewer only at the end."""
        if size < 0:  # which tarfile lets pass, and would mean all that is left
            raise _Refused("a file in it has a negative size")
        pieces, left = [], min(size, _PIECE)
        while left and (piece := self._reader.read(left)):
            pieces.append(piece)
            left -= len(piece)
            self._place += len(piece)
        if self._place > self._limit:
            raise _Refused(
                f"it has more than {self._limit / _GB:g} GB; if you trust it, give a larger --limit"
            )
        return b"".join(pieces)

    def next_entry(self) -> None:
        """Note that an entry begins, which has headers of its own."""
        self._of_headers = 0

    def check_end(self) -> None:
        """Read on to the end of what was compressed.

        Raises:
            _Refused: The last header was not the empty one that ends every archive.
        """
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise _Refused(_CUT_OFF)
        while self.content(_PIECE):
            pass


def _files(archive: tarfile.TarFile, stream: _Stream, folder: Path) -> Iterator[str]:
    """Write the files of an archive, and yield their names.

    Raises:
        _Refused: An entry is no plain file, or has a name that is not allowed; or there is no end.
    """
    seen: set[str] = set()
    for number, entry in enumerate(archive):
        stream.next_entry()
        if number >= _MOST_FILES:
            raise _Refused(f"it has more than {_MOST_FILES:,} files")
        name = entry.name.removeprefix("./").rstrip("/")
        if entry.isdir() and name in ("", "."):
            continue
        _check_name(name)
        if entry.isdir():
            continue
        if not entry.isreg() or entry.issparse():
            raise _Refused(f"{show(name)} in it is no plain file")
        if name.casefold() in seen:
            raise _Refused(f"{show(name)} is in it twice")
        seen.add(name.casefold())
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            _copy(stream, entry, file)
        yield name
    stream.check_end()


def _check_name(name: str) -> None:
    """Refuse a name that leads out of a folder on any system, or that cannot be shown."""
    plain = PurePosixPath(name)
    is_inside = bool(plain.parts) and not plain.is_absolute() and ".." not in plain.parts
    is_inside &= not PureWindowsPath(name).drive and "\\" not in name and ":" not in name
    if not is_inside or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise _Refused(f"{show(name)} in it is a path that is not allowed")


def _copy(stream: _Stream, entry: tarfile.TarInfo, file: IO[bytes]) -> None:
    """Copy the content of an entry, piece by piece."""
    stream.seek(entry.offset_data)
    left = entry.size
    while left:
        if not (piece := stream.content(left)):
            raise _Refused(_CUT_OFF)
        file.write(piece)
        left -= len(piece)


def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
