"""File locks, which the system releases when the process that holds them ends."""

from __future__ import annotations

import glob
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_TAG = "[0-9a-f]" * 8  # random end of the names that `new_held` makes


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a lock file within this context; the file is removed afterwards.

    If the system or the file system has no locks, nothing is locked.

    Yields:
        Whether this process now has the lock.

    Raises:
        BlockingIOError: Another process has it.
    """
    if sys.platform == "win32":
        yield False
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_locked = _try_to_lock(descriptor)
        # The previous holder may have removed the file, and a third process made a new one.
        if not _is_at(path, descriptor):
            raise BlockingIOError
        try:
            yield is_locked
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a shared lock within this context; wait while another process holds it `alone`.

    Raises:
        OSError: The lock file, which is kept, cannot be made.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        with suppress(OSError):  # the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock within this context that no other process holds, not even `shared`.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: The lock file, which is kept, cannot be made.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        _try_to_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on an existing file or folder itself within this context.

    The lock survives renaming, and needs no lock file that could be left over.

    Yields:
        Whether this process now has the lock.

    Raises:
        BlockingIOError: Another process has the lock, or the file was just removed or replaced.
    """
    if sys.platform == "win32":
        yield False
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise BlockingIOError from error
    try:
        is_locked = _try_to_lock(descriptor)
        if not _is_at(path, descriptor):
            raise BlockingIOError
        yield is_locked
    finally:
        os.close(descriptor)


@contextmanager
def new_held(parent: Path, prefix: str, *, is_folder: bool) -> Iterator[Path]:
    """Yield a new, locked file or folder, which `abandoned` skips within this context.

    Removing or renaming it is left to the caller.
    """
    with ExitStack() as stack:
        for _ in range(100):
            path = parent / f"{prefix}{secrets.token_hex(4)}"
            if is_folder:
                path.mkdir()
            else:
                path.touch(exist_ok=False)
            try:
                stack.enter_context(held(path))
                break
            except BlockingIOError:  # another process took it for a leftover before it was locked
                continue
        else:
            raise BlockingIOError
        yield path


def abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield files or folders of `new_held` whose processes have ended, each locked meanwhile.

    Without locks it is unknown which processes are alive, so nothing is yielded.
    """
    for path in sorted(parent.glob(f"{glob.escape(prefix)}{_TAG}")):
        try:
            with held(path) as is_held:
                if is_held:
                    yield path
        except OSError:  # in use, gone, or another user's
            continue


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether a path still is that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # the file system has no locks
        return False
    return True
