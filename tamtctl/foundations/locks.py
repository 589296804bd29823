"""Locks that end with the process that holds them, however it ends."""

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

_TAG = "[0-9a-f]" * 8  # as `new_held` makes them


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


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock that several processes may hold at once; wait for whoever has it `alone`.

    Raises:
        OSError: The file, which stays, cannot be made.
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
    """Hold a lock that nobody else holds, not even as one of several.

    Raises:
        BlockingIOError: Somebody does.
        OSError: The file, which stays, cannot be made.
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
    """Lock a file or folder that is there, itself, for the length of the block.

    The lock moves along when it is renamed, and needs no file beside it that could be left over.

    Yields:
        Whether this process now has the lock, so that no other one can.

    Raises:
        BlockingIOError: Another process has it, or it was removed or exchanged just now.
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
        try:
            is_same = os.path.samestat(os.fstat(descriptor), path.lstat())
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise BlockingIOError
        yield is_locked
    finally:
        os.close(descriptor)


@contextmanager
def new_held(parent: Path, prefix: str, *, is_folder: bool) -> Iterator[Path]:
    """Make a file or folder of a new name, which `abandoned` passes over for so long.

    What is still there under this name in the end is left to the caller.
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
            except BlockingIOError:  # somebody took it for a leftover in this very moment
                continue
        else:
            raise BlockingIOError
        yield path


def abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield what processes that ended have left of `new_held`; it is held meanwhile.

    Where nothing can be locked it is not known who is at work, and nothing is yielded.
    """
    for path in sorted(parent.glob(f"{glob.escape(prefix)}{_TAG}")):
        try:
            with held(path) as is_held:
                if is_held:
                    yield path
        except OSError:  # at work, gone, or not ours
            continue


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # the file system has no locks
        return False
    return True
