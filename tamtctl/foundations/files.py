"""Writing a file so that a crash leaves the old one or the new one, with the rights of any other.

What makes temporary files keeps them from other users; what we leave has the rights that ``open``
would have given it, as the umask and the folder say.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tamtctl.foundations.locks import abandoned, new_held


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file beside ``path`` that takes its name, whole, if the block ends well."""
    prefix = f".{path.name}-"
    for leftover in abandoned(path.parent, prefix):
        leftover.unlink(missing_ok=True)
    with new_held(path.parent, prefix, is_folder=False) as temporary:
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


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
