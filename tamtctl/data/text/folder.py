"""Finding the files of a folder of text; links are followed, and files left out are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tamtctl.foundations.errors import CorpusError

_NAMED = 3  # most names of left-out files in a note

_UNREAD, _HIDDEN = "of kinds that are not read", "hidden"
_DANGLING, _AGAIN = "links to nothing", "links to what is read already"
_NO_FILE = "neither files nor folders"


def files_below(folder: Path, is_readable: Callable[[Path], bool]) -> tuple[list[Path], str | None]:
    """Find all readable files below a folder, also behind symbolic links, each one once.

    Args:
        folder: Where to look.
        is_readable: Returns whether a file is of a readable kind, by its name.

    Returns:
        The files, sorted, and a line that names files left out; None if there are none.

    Raises:
        CorpusError: A folder cannot be read.
    """
    walk = _Walk(folder, is_readable)
    files = sorted(walk.files())
    return files, walk.left_out()


class _Walk:
    def __init__(self, folder: Path, is_readable: Callable[[Path], bool]) -> None:
        self._folder, self._is_readable = folder, is_readable
        self._seen: set[tuple[int, int]] = set()
        self._left: dict[str, list[str]] = {}

    def files(self) -> Iterator[Path]:
        """Yield readable files; links come last, so that a file here keeps its own name."""
        links: list[Path] = []
        folders = [self._folder]
        self._is_new(self._folder)
        while folders or links:
            path = folders.pop() if folders else links.pop(0)
            if path.is_symlink() and path != self._folder and not self._is_new(path):
                continue
            if not path.is_dir():  # a link to a file
                yield path
                continue
            for entry in filter(self._is_wanted, _entries(path)):
                if entry.is_symlink():
                    links.append(entry)
                elif not self._is_new(entry):
                    continue
                elif entry.is_dir():
                    folders.append(entry)
                else:
                    yield entry

    def left_out(self) -> str | None:
        """Return a line that names files left out; None if there are none."""
        if not self._left:
            return None
        parts = []
        for why, names in self._left.items():
            names.sort()
            shown = ", ".join(map(repr, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")
            parts.append(f"{len(names)} {why} ({shown})")
        return f"left out of the folder {str(self._folder)!r}: {'; '.join(parts)}"

    def _is_wanted(self, path: Path) -> bool:
        """Return whether to read an entry of a folder; if not, remember why."""
        why = None
        if path.name.startswith("."):
            why = _HIDDEN
        elif not path.exists():
            why = _DANGLING
        elif not path.is_dir() and not path.is_file():
            why = _NO_FILE
        elif path.is_file() and not self._is_readable(path):
            why = _UNREAD
        if why:
            self._leave_out(why, path)
        return why is None

    def _leave_out(self, why: str, path: Path) -> None:
        self._left.setdefault(why, []).append(str(path.relative_to(self._folder)))

    def _is_new(self, path: Path) -> bool:
        """Return whether a file or folder is new, by its inode; if not, remember it as left out."""
        status = path.stat()
        place = status.st_dev, status.st_ino
        if place in self._seen:
            self._leave_out(_AGAIN, path)
            return False
        self._seen.add(place)
        return True


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename}: {error.strerror}") from error
