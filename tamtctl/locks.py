"""Folders that one process at a time works in: a lock that ends with its process, however it ends.

Where the system or the file system has no such locks, nothing is locked.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock a folder that exists for the length of the block.

    Yields:
        Whether this process now has the lock, and no other one can.

    Raises:
        BlockingIOError: Another process has it.
    """
    if sys.platform == "win32":
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        is_locked = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            is_locked = False
        yield is_locked
    finally:
        os.close(descriptor)
