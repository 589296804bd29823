"""The SHA-256 of files, cached until a file changes."""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from tamtctl.foundations.cache import cache_folder, keep_if_possible
from tamtctl.foundations.files import write_whole
from tamtctl.foundations.working import work

_REMEMBERED_FROM = 2**20  # bytes; smaller files are hashed faster than looked up
_SETTLED_NS = 2 * 10**9  # a file that changed just now may change again with the same time stamp
_AT_ONCE = 2**22  # bytes read at once
_HEX = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's content.

    For a large file it is cached. The key is everything that changes with the file: path, device,
    inode, size, and the times of the last change of content and of metadata.

    Raises:
        OSError: The file cannot be read.
    """
    status = path.stat()
    if status.st_size < _REMEMBERED_FROM:
        return _read_and_hash(path)
    facts = (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip
    name = hashlib.sha256(repr((os.path.realpath(path), facts)).encode("utf-8", "surrogateescape"))
    kept = cache_folder("digests") / name.hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        if _HEX.fullmatch(known := kept.read_text(encoding="ascii")):
            return known
    digest = _read_and_hash(path)
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
        _remember(kept, digest)
    return digest


def _read_and_hash(path: Path) -> str:
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file, work(f"hashing {path.name}", size, unit="B") as advance:
        while part := file.read(_AT_ONCE):
            digest.update(part)
            advance(len(part))
    return digest.hexdigest()


def _remember(kept: Path, digest: str) -> None:
    """Write a digest to the cache; if that fails, the file is read again next time."""
    keep_if_possible(kept, lambda file: write_whole(file, digest.encode("ascii")))
