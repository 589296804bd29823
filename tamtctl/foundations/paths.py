"""Paths as a user writes them: ``~`` for a home folder, relative to a working directory.

Whatever is wrong with one is told in one line, before it is used.
"""

from __future__ import annotations

import os
from pathlib import Path

from tamtctl.foundations.errors import TamtctlError, UsageError

_LONGEST_NAME = 80  # bytes of a folder's name that say what it is of; file systems take 255 in all


def expanded(path: Path | str) -> Path:
    """Return a path with the home folder that its ``~`` or ``~user`` stands for.

    A file that really is called so comes first.

    Raises:
        UsageError: There is no such user, or nobody knows where the home folder is.
    """
    text = os.fspath(path)
    home = os.path.expanduser(text)  # noqa: PTH111, Path.expanduser raises where nobody is at home
    if home == text and text.startswith("~") and not os.path.lexists(text):
        user = text.partition(os.sep)[0]
        if user == "~":
            raise UsageError(f"there is no home folder for {text!r}; set HOME, or write it out")
        raise UsageError(
            f"there is no user {user[1:]!r}, whose home {text!r} would be in; check the name, or "
            f"write ./{text} for what is really called so"
        )
    return Path(home)


def folder_name(name: str) -> str:
    """Return what a folder may be called after a model or a ticket: printable, and not too long."""
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
    """Whether a path exists; unlike ``Path.exists``, False for what cannot be looked at."""
    return os.path.exists(path)  # noqa: PTH110
