"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock, a file that is there only for this, for the length of the block.

    Where the system or the file system has no such locks, nothing is locked.

    Yields:
        Whether this process now has the lock, so that no other one can.

    Raises:
        BlockingIOError: Another process has it.
    """
    if sys.platform == "win32":
        yield False
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_locked = _try_to_lock(descriptor)
        # Who had it before may have removed the file meanwhile, and a third one made a new file.
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise BlockingIOError
        try:
            yield is_locked
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # the file system has no locks
        return False
    return True
