"""Paths as users write them: with ``~`` for a home folder, relative to the working directory.

An error in a path is reported in one line, before the path is used.
"""

from __future__ import annotations

import os
from pathlib import Path

from tamtctl.foundations.errors import TamtctlError, UsageError

_LONGEST_NAME = 80  # most bytes of the descriptive part of a folder's name, of 255 in all


def expanded(path: Path | str) -> Path:
    """Return a path with ``~`` or ``~user`` replaced by the home folder.

    An existing file whose name begins with ``~`` comes first.

    Raises:
        UsageError: There is no such user, or the home folder is unknown.
    """
    text = os.fspath(path)
    home = os.path.expanduser(text)  # noqa: PTH111, Path.expanduser raises where nobody is at home
    if home == text and text.startswith("~") and not os.path.lexists(text):
        user = text.partition(os.sep)[0]
        if user == "~":
            raise UsageError(f"there is no home folder for {text!r}; set HOME, or write it out")
        raise UsageError(
            f"there is no user {user[1:]!r}, whose home {text!r} would be in; check the name, or "
            f"write ./{text} if a file has that name"
        )
    return Path(home)


def folder_name(name: str) -> str:
    """Return a folder's name made from that of a model or ticket: printable and not too long."""
    plain = "".join(c if c.isprintable() else "_" for c in name)
    return plain.encode()[:_LONGEST_NAME].decode(errors="ignore")


def check_working_directory() -> None:
    """Raise TamtctlError if the working directory has been removed."""
    try:
        Path.cwd()
    except OSError as error:
        raise TamtctlError(
            "the working directory is gone; change to one that exists (cd), and try again"
        ) from error


def exists(path: Path) -> bool:
    """Whether a path exists; unlike ``Path.exists``, False if it cannot be accessed."""
    return os.path.exists(path)  # noqa: PTH110
