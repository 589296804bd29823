"""Measuring and emptying folders, without following links, not even the folder itself."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Amount:
    """The number and size of a folder's files.

    Attributes:
        files: Files in it and below it; a link counts as one file, whatever it leads to.
        bytes: Their size.
    """

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.files + other.files, self.bytes + other.bytes)


def amount_in(folder: Path) -> Amount:
    """Return the amount in a folder; 0 if the path is no folder, or a link."""
    if folder.is_symlink():
        return Amount()
    found = Amount()
    for parent, folders, files in os.walk(folder):  # follows no links
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*files, *links):
            try:
                found += Amount(1, (Path(parent) / name).lstat().st_size)
            except FileNotFoundError:  # it was removed meanwhile
                continue
    return found


def empty(folder: Path) -> None:
    """Remove everything in a folder; of links, only the links themselves.

    Raises:
        OSError: Something cannot be removed, or the folder is a link.
    """
    if folder.is_symlink():
        raise NotADirectoryError(f"{str(folder)!r} is a link")
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)  # removes links and follows none
            else:
                Path(entry.path).unlink(missing_ok=True)
