"""Writing so that a crash leaves the old file or the new one, with the rights of any other.

What is written whole or not at all is made under a temporary name (`unfinished`) and gets its own
once it is on the disk. What makes temporary files keeps them from other users; what we leave has
the rights that ``open`` would have given it, as the umask and the folder say.
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
    """Yield a new file or folder that is gone at the end, unless it has another name by then.

    What processes that were killed have left of the same kind goes first.

    Args:
        parent: Where it is made.
        prefix: What its temporary name begins with; no other kind of thing there has the same.
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
    """Let a file that is written take its name, which may be another's, once it is on the disk."""
    with file.open("r+b") as written:
        os.fsync(written.fileno())
    file.replace(path)


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file beside ``path`` that takes its name, whole, if the block ends well."""
    with unfinished(path.parent, f".{path.name}-", is_folder=False) as new:
        with new.open("wb") as file:
            yield file
        put_in_place(new, path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is whole or, if it fails, what it was before."""
    with replacing_file(path) as file:
        file.write(content)


def give_usual_rights(file: Path) -> None:
    """Let a file that a library has made have the rights that ``open`` would have given it."""
    file.chmod(_usual_mode(file.parent))


def check_folder_writable(folder: Path) -> None:
    """Raise OSError unless files can be made in a folder; some tell only when it is tried."""
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
