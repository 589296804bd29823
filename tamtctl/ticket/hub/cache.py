"""Reading and writing the Hub's cache on this machine, which all libraries share.

    models--org--name/snapshots/COMMIT/ticket.json -> ../../blobs/CHECKSUM
    models--org--name/refs/main                       the commit that a branch or tag names

A Hub may be malicious, and may have left links in the cache earlier. So file names are made only of
checksums whose form was checked, and nothing is read, written or deleted through a link that leads
out of the repository's folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from tamtctl.foundations.errors import HubError
from tamtctl.foundations.files import put_in_place, unfinished
from tamtctl.foundations.plain_files import BLOBS, SNAPSHOTS, leads_out, read_regular
from tamtctl.ticket.format.metadata import METADATA_FILE

COMMIT = re.compile(r"[0-9a-f]{40}")
_REFS = "refs"
_TEMPORARY = ".tamtctl-"  # prefix of temporary files; leftovers are removed
_MAX_REF_BYTES = 1000


@dataclass(frozen=True)
class RepoCache:
    """The part of the cache that belongs to one repository."""

    repo: str

    @property
    def storage(self) -> Path:
        """The repository's folder, which need not exist."""
        name = constants.REPO_ID_SEPARATOR.join(["models", *self.repo.split("/")])
        return Path(constants.HF_HUB_CACHE) / name

    def snapshot(self, commit: str) -> Path:
        """Return the folder of a commit, which need not exist."""
        return self.storage / SNAPSHOTS / commit

    def find(self, commit: str, name: str) -> Path | None:
        """Return a file of a commit if the cache has it, and not through a link elsewhere."""
        folder = self.snapshot(commit)
        self._refuse_links(folder)
        return folder / name if (folder / name).is_file() and not leads_out(folder, name) else None

    def put(self, commit: str, name: str, blob: str, write: Callable[[Path], None]) -> Path:
        """Add a file to a commit, as the Hub's client would.

        Args:
            commit: The 40 hex digits of the commit.
            name: Name of the file, without folders.
            blob: The checksum under which the content is stored.
            write: Writes the content to a path; if it raises, nothing is added.
        """
        folder, blobs = self.snapshot(commit), self.storage / BLOBS
        self._refuse_links(folder)
        self._refuse_links(blobs)
        self.storage.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished(self.storage, _TEMPORARY, is_folder=False) as new:
                write(new)
                blobs.mkdir(exist_ok=True)
                put_in_place(new, blobs / blob)
        finally:
            self._remove_if_empty(self.storage)
        folder.mkdir(parents=True, exist_ok=True)
        link = self.storage / f"{_TEMPORARY}{secrets.token_hex(4)}"
        try:
            link.symlink_to(Path("..", "..", BLOBS, blob))
        except OSError:  # the system has no links
            shutil.copyfile(blobs / blob, link)
        link.replace(folder / name)
        return folder / name

    def evict(self, path: Path, *, is_damaged: bool = False) -> None:
        """Remove a file of a snapshot, and its content if that is damaged or no longer used."""
        content = Path(os.path.realpath(path))
        is_own = not leads_out(path.parent, path.name)
        path.unlink(missing_ok=True)
        if is_own:
            others = path.parent.parent.glob(f"*/{path.name}")
            if is_damaged or not any(other.resolve() == content for other in others):
                content.unlink(missing_ok=True)
        self._remove_if_empty(path.parent)

    def named_commit(self, revision: str, name: str) -> Path | None:
        """Return the snapshot of a branch, tag or commit if it holds a file, else None."""
        found = huggingface_hub.try_to_load_from_cache(self.repo, name, revision=revision)
        return Path(found).parent if isinstance(found, str) else None

    def name_commit(self, revision: str, commit: str) -> None:
        """Make a branch or tag point to a commit, like the Hub's client.

        The client does so before the first download; here it is done after verification.
        """
        if revision == commit:
            return
        ref = self.storage / _REFS / revision
        self._refuse_links(ref.parent)
        if _commit_in(ref) == commit:
            return
        ref.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(self.storage, _TEMPORARY, is_folder=False) as new:
            new.write_text(commit, encoding="utf-8")
            put_in_place(new, ref)

    def _refuse_links(self, folder: Path) -> None:
        """Raise HubError if a folder of the cache, or one above it in the repository, is a link."""
        for part in (folder, *folder.parents):
            if part == self.storage:
                return
            if part.is_symlink():
                raise HubError(f"{str(part)!r} in the Hub's cache is a link; remove it")

    @staticmethod
    def _remove_if_empty(folder: Path) -> None:
        with suppress(OSError):
            folder.rmdir()


def named_snapshots(name: str) -> Iterator[tuple[str, str, Path]]:
    """Yield repository, branch or tag, and snapshot, of those that hold a file of this name."""
    for storage in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        repo = storage.name.removeprefix("models--").replace("--", "/")
        refs = storage / _REFS
        for ref in sorted(refs.rglob("*")):
            commit = _commit_in(ref)
            if commit and (storage / SNAPSHOTS / commit / name).exists():
                yield repo, ref.relative_to(refs).as_posix(), storage / SNAPSHOTS / commit


def pulled_tickets() -> dict[str, Path]:
    """Return name → folder of the tickets in the Hub's cache; `resolve_ticket` takes these names.

    A ticket on ``main`` is called ``org/name``, on another branch or tag ``org/name@branch``.
    """
    return {
        repo if branch == "main" else f"{repo}@{branch}": folder
        for repo, branch, folder in named_snapshots(METADATA_FILE)
    }


def _commit_in(ref: Path) -> str | None:
    """Return the commit in the file of a branch or tag, None if it holds none."""
    try:
        text = read_regular(ref, _MAX_REF_BYTES).decode()
    except (OSError, ValueError):
        return None
    return text if COMMIT.fullmatch(text) else None
