"""Writing files atomically, with usual permissions: a crash leaves the old file or the new one.

A file is written under a temporary name (`unfinished`) and renamed once it is on the disk.
Libraries make temporary files private; here, files get the permissions that ``open`` would have
given them, by umask and folder.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tamtctl.foundations.locks import abandoned, new_held


@contextmanager
def unfinished(parent: Path, prefix: str, *, is_folder: bool) -> Iterator[Path]:
    """Yield a new file or folder that is removed at the end, unless it was renamed.

    Leftovers of killed processes with the same prefix are removed first.

    Args:
        parent: Folder in which it is made.
        prefix: Start of its temporary name, which no other kind of file there has.
        is_folder: Whether it is a folder.
    """
    for leftover in abandoned(parent, prefix):
        _remove(leftover)
    with new_held(parent, prefix, is_folder=is_folder) as new:
        try:
            yield new
        finally:
            _remove(new)


def put_in_place(file: Path, path: Path) -> None:
    """Flush a written file to the disk, then rename it, replacing an older file."""
    with file.open("r+b") as written:
        os.fsync(written.fileno())
    file.replace(path)


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces ``path`` atomically if the block ends without an error."""
    with unfinished(path.parent, f".{path.name}-", is_folder=False) as new:
        with new.open("wb") as file:
            yield file
        put_in_place(new, path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically; if that fails, the old one stays."""
    with replacing_file(path) as file:
        file.write(content)


def give_usual_rights(file: Path) -> None:
    """Give a file that a library made the permissions that ``open`` would have given it."""
    file.chmod(_usual_mode(file.parent))


def check_folder_writable(folder: Path) -> None:
    """Raise OSError unless files can be made in a folder, by making one."""
    _usual_mode(folder)


def _usual_mode(folder: Path) -> int:
    """Return the mode of a new file, by making one."""
    probe = folder / f".{secrets.token_hex(4)}.probe"
    try:
        with probe.open("xb") as file:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    finally:
        probe.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
