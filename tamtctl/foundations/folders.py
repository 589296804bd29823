"""Writing folders atomically: a crash leaves the old folder or the new one, never half of it.

A folder is written beside its final place as ``.NAME.new-…``; the folder that it replaces becomes
``.NAME.old-…``. The next write removes what a killed process left of these.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.foundations.files import check_folder_writable, unfinished
from tamtctl.foundations.locks import abandoned, held
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.untrusted import reason


@contextmanager
def replacing(
    folder: Path | str, marker: str | None = None, own_files: Collection[str] = ()
) -> Iterator[Path]:
    """Yield a new folder that replaces ``folder`` if the block ends without an error.

    Args:
        folder: The final folder; it may exist if it is empty or holds the file ``marker``.
        marker: File that marks a folder that may be replaced; None: only an empty one.
        own_files: Files that are removed with a replaced folder; its other files are moved to the
            new one.

    Raises:
        TicketError: The folder holds something else, is a link to a folder that would be replaced,
            or cannot be written.
        UsageError: The working directory is in it.
    """
    try:
        _sweep(Path(os.path.realpath(expanded(folder))), own_files)
        folder = check_target(folder, marker)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(folder.parent, f".{folder.name}.new-", is_folder=True) as new:
            yield new
            _swap(new, folder, own_files)
    except OSError as error:
        raise TicketError(f"cannot write {str(folder)!r}: {reason(error)}") from error


def check_target(folder: Path | str, marker: str | None = None) -> Path:
    """Return the folder that `replacing` would write, after the same checks.

    The working directory is not replaced, since the shell would be left in a removed folder.

    Raises:
        TicketError: The folder holds something else, or cannot be written.
        UsageError: The working directory is in it.
    """
    target = Path(os.path.realpath(expanded(folder)))
    if Path(os.path.realpath(Path.cwd())).is_relative_to(target):
        raise UsageError(
            f"output folder {str(folder)!r} is the working directory or holds it, and would be "
            "replaced; give another folder"
        )
    try:
        _refuse_other_content(target, marker)
        if expanded(folder).is_symlink() and target.exists() and any(target.iterdir()):
            raise TicketError(
                f"{str(folder)!r} is a link; give {str(target)!r} itself to replace what is there"
            )
        check_folder_writable(nearest_folder(target.parent))
        return target
    except OSError as error:
        raise TicketError(f"cannot write {str(folder)!r}: {reason(error)}") from error


def nearest_folder(path: Path) -> Path:
    """Return the path if it exists, else its nearest existing parent."""
    for candidate in (path, *path.parents):
        if os.path.lexists(candidate):
            return candidate
    return path


def write_to_disk(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk, so that it survives a power failure."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap(new: Path, folder: Path, own_files: Collection[str]) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.old-{secrets.token_hex(4)}")
    with ExitStack() as stack:
        with suppress(BlockingIOError):  # another process replaces it, too; the last one wins
            stack.enter_context(held(folder))
        folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            old.rename(folder)
            raise
        _move_along(old, folder, own_files)


def _move_along(old: Path, folder: Path, own_files: Collection[str]) -> None:
    """Move a replaced folder's other files to the new one, and remove the rest."""
    for entry in old.iterdir():
        if entry.name not in own_files and not os.path.lexists(folder / entry.name):
            entry.rename(folder / entry.name)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path, own_files: Collection[str]) -> None:
    """Finish or undo what processes killed while they wrote this folder left behind."""
    if not folder.parent.is_dir():
        return
    for old in abandoned(folder.parent, f".{folder.name}.old-"):
        if folder.exists():
            _move_along(old, folder, own_files)
        else:  # killed between the two renames: the old folder is complete
            old.rename(folder)


def _refuse_other_content(folder: Path, marker: str | None) -> None:
    if not folder.exists() or (marker and (folder / marker).exists()):
        return
    if not folder.is_dir():
        raise TicketError(f"{str(folder)!r} is a file; give a new or an empty folder")
    if any(folder.iterdir()):
        what = "exists and is no ticket" if marker else "is not empty"
        raise TicketError(f"{str(folder)!r} {what}; give a new or an empty folder")


def folder_size(folder: Path) -> int:
    """Return the total bytes of the files directly in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000 as on the Hub."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
