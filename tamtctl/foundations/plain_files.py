"""Reading files that a stranger may have made, without waiting for pipes or opening devices.

A ticket, a model or a run may come in a stranger's archive, with links and special files.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

BLOBS, SNAPSHOTS = "blobs", "snapshots"  # names of folders in the Hub's cache


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, to read its bytes.

    Raises:
        OSError: The file does not exist, cannot be read, or is a pipe, a socket or a device.
    """
    _refuse_special(path, os.stat(path).st_mode)  # noqa: PTH116, of a Path it is the same
    # If the file is replaced by a pipe right now, opening it still does not wait.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        _refuse_special(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file, of at most ``limit`` bytes.

    Raises:
        OSError: As for `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        # Not more than the file has, since read() allocates that much memory first.
        content = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return content


def is_special(path: Path) -> bool:
    """Whether a path leads to a pipe, a socket or a device."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def leads_out(folder: Path, name: str) -> bool:
    """Whether a name in a folder is, or lies behind, a link that leads out of the folder.

    Links of the Hub's cache, from a snapshot to its blobs, do not count.
    """
    target, home = Path(os.path.realpath(folder / name)), Path(os.path.realpath(folder))
    if target.is_relative_to(home):
        return False
    storage = home.parent.parent
    blobs = storage / BLOBS
    is_in_cache = home.parent.name == SNAPSHOTS and not blobs.is_symlink()
    return not (is_in_cache and target.parent == blobs)


def _refuse_special(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
