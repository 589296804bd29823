"""What tamtctl keeps besides its runs: its caches, their sizes, and clearing them.

What is cleared is made or fetched again when it is needed. Nothing is cleared while a process works
with it, and links are not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.cache import CACHES, IN_USE, cache_dir, cache_folder
from tamtctl.foundations.checks import one_of
from tamtctl.foundations.clearing import Amount, amount_in, empty
from tamtctl.foundations.errors import TamtctlError
from tamtctl.foundations.locks import alone
from tamtctl.foundations.plain_files import SNAPSHOTS
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import reason
from tamtctl.ticket.format.metadata import TICKET_FILES
from tamtctl.ticket.hub.cache import pulled_tickets

PULLED = "tickets"  # tickets from the Hub, which are in its own cache
_OF_CACHES = re.compile(r"^\.|[0-9a-f]{8}")
_IN_A_TICKETS_REPOSITORY = {*TICKET_FILES, ".gitattributes"}


@dataclass(frozen=True)
class Cached:
    """One cache.

    Attributes:
        name: Its name, for `clear_cache`.
        about: A description.
        folder: Its folder.
        files: Number of its files.
        bytes: Size of its files.
    """

    name: str
    about: str
    folder: Path
    files: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"folder": str(self.folder)}


@dataclass(frozen=True, repr=False)
class CacheContents(Shown):
    """The caches that there are, or that were or would be cleared.

    Attributes:
        caches: The caches, empty ones included.
        cleared: Whether they were cleared.
        notes: What was not cleared, and why.
    """

    caches: tuple[Cached, ...]
    cleared: bool = False
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of all caches together."""
        return sum(one.bytes for one in self.caches)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "caches": [one.to_dict() for one in self.caches],
            "bytes": self.bytes,
            "cleared": self.cleared,
            "notes": list(self.notes),
        }


def cache_contents() -> CacheContents:
    """Return the caches, and how large they are.

    Raises:
        TamtctlError: There is no home folder, and no other folder is configured.

    Example:
        >>> [one.name for one in tamtctl.cache_contents().caches][:2]
        ['corpora', 'statistics']
    """
    return CacheContents(tuple(_cached(name) for name in (*CACHES, PULLED)))


def clear_cache(names: str | Sequence[str] = (), *, dry_run: bool = False) -> CacheContents:
    """Clear caches, and return what they held.

    Args:
        names: One or several names in `cache_contents`; by default all but ``tickets``, as these
            could only be fetched again.
        dry_run: Only return what would be cleared.

    Raises:
        UsageError: There is no such cache.
        TamtctlError: A process works with a cache, or something cannot be removed.

    Example:
        >>> tamtctl.clear_cache(["statistics", "losses"], dry_run=True).cleared
        False
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        one_of("name", name, (*CACHES, PULLED))
    caches = tuple(_cached(name) for name in names or CACHES)
    notes = tuple(line for one in caches for line in _left(one))
    if dry_run or not any(one.files for one in caches):
        return CacheContents(caches, notes=notes)
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        with alone(cache_dir() / IN_USE):
            for one in caches:
                for folder in _folders(one.name):
                    empty(folder)
                    folder.rmdir()
    except BlockingIOError as error:
        raise TamtctlError(
            "another tamtctl is at work with the cache; clear it when that has ended"
        ) from error
    except OSError as error:
        raise TamtctlError(f"cannot clear the cache: {reason(error)}") from error
    return CacheContents(caches, cleared=True, notes=notes)


def _cached(name: str) -> Cached:
    found = sum(map(amount_in, _folders(name)), Amount())
    if name == PULLED:
        from huggingface_hub import constants

        about, folder = "tickets that were pulled from the Hub", Path(constants.HF_HUB_CACHE)
    else:
        about, folder = CACHES[name], cache_folder(name)
    return Cached(name, about, folder, found.files, found.bytes)


def _folders(name: str) -> list[Path]:
    """Return the existing folders of a cache that hold nothing else, without links."""
    found = _storages() if name == PULLED else [cache_folder(name)]
    is_ours = _is_ticket if name == PULLED else _is_cache
    return [f for f in found if f.is_dir() and not f.is_symlink() and is_ours(f)]


def _left(one: Cached) -> Iterator[str]:
    """Yield what is not cleared, and why."""
    if one.name != PULLED:
        if one.folder.is_symlink():
            yield f"{one.folder} is a link, which is not followed"
        elif one.folder.is_dir() and not _is_cache(one.folder):
            yield f"{one.folder} holds more than a cache, and stays"
        return
    for storage in _storages():
        if storage.is_symlink():
            yield f"{storage} is a link, which is not followed"
        elif not _is_ticket(storage):
            yield f"{storage} holds more than tickets, and stays"


def _storages() -> list[Path]:
    """Return the folders of the repositories from which tickets were pulled."""
    return list(dict.fromkeys(folder.parent.parent for folder in pulled_tickets().values()))


def _is_cache(folder: Path) -> bool:
    """Return whether all names in a folder are of digests, or of files that were not finished.

    ``TAMTCTL_CACHE`` may be a folder of the user's, in which another program writes ``scores``.
    """
    return all(_OF_CACHES.search(path.name) for path in folder.iterdir())


def _is_ticket(storage: Path) -> bool:
    """Return whether a repository's folder holds only files of tickets."""
    found = {path.name for path in storage.glob(f"{SNAPSHOTS}/*/*")}
    return found <= _IN_A_TICKETS_REPOSITORY
