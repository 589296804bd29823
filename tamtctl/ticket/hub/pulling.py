"""Fetching a ticket from the Hub.

A pulled ticket is stored under its commit in the Hub's cache, which all libraries share. Only the
files of the format are requested, and each is compared with the checksum that the Hub states. The
whole ticket is verified before a name (a branch or tag in the cache, or ``local_dir``) points to
it. What fails is removed from the cache.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub.hf_api import RepoFile

from tamtctl.foundations.cache import cache_in_use, check_hub_cache
from tamtctl.foundations.errors import HubError, NoTicketError, TicketError
from tamtctl.foundations.folders import check_target, replacing, write_to_disk
from tamtctl.foundations.hub_requests import UnreachableError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.public_names import LOCAL_FILE
from tamtctl.foundations.shown import Shown
from tamtctl.ticket.format.metadata import HEAD_FILE, MASK_FILE, METADATA_FILE, TICKET_FILES
from tamtctl.ticket.format.reader import TicketReader
from tamtctl.ticket.hub.cache import RepoCache
from tamtctl.ticket.hub.client import MAX_BYTES, HubRepo, check_names, commit_of


@dataclass(frozen=True, repr=False)
class PullResult(Shown):
    """The result of a pull, or with ``dry_run`` what it would fetch.

    Attributes:
        repo: The Hub id.
        commit: The commit of the ticket.
        path: The ticket's folder: in the Hub's cache, or ``local_dir``.
        files: Name → size in bytes.
        dry_run: Whether nothing was fetched.
        from_cache: Whether the Hub was not reached, so that a copy fetched earlier is used.
    """

    repo: str
    commit: str
    path: Path
    files: dict[str, int]
    dry_run: bool
    from_cache: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"path": str(self.path)}


@cache_in_use()
def pull(
    repo: str,
    *,
    revision: str | None = None,
    local_dir: Path | str | None = None,
    force_download: bool = False,
    token: str | None = None,
    dry_run: bool = False,
    endpoint: str | None = None,
) -> PullResult:
    """Fetch a ticket from the Hub into the Hub's cache and verify it.

    If the Hub cannot be reached or fails, a copy that was fetched earlier is used. If the Hub
    refuses the request, it is not.

    Args:
        repo: ``org/name``.
        revision: Branch, tag or commit; by default ``main``.
        local_dir: Also copy the ticket to this folder, which must be new, empty or a ticket.
        force_download: Fetch again what the cache holds.
        token: Hub token; by default the one of ``hf auth login`` or ``HF_TOKEN``.
        dry_run: Return what would be fetched, and fetch nothing.
        endpoint: URL of another Hub; by default ``HF_ENDPOINT``.

    Raises:
        TicketError: The repository holds no valid ticket; nothing is kept.
        HubError: The Hub refuses the request or cannot be reached.

    Example:
        >>> tamtctl.pull("my-name/nano-ticket").path  # doctest: +SKIP
    """
    check_names(repo, revision)
    if local_dir is not None:
        check_target(local_dir, METADATA_FILE)
    check_hub_cache()
    hub = HubRepo(repo, revision, token, endpoint)
    try:
        info = hub.info()
    except UnreachableError as error:
        snapshot = RepoCache(repo).named_commit(revision or "main", METADATA_FILE)
        if force_download:
            raise
        if snapshot is None:
            wanted = f"{repo} at {revision}" if revision else repo
            raise HubError(f"{wanted} was not fetched before, and {error}") from error
        if dry_run:
            raise HubError(f"{error}; a dry run asks the Hub") from error
        TicketReader(snapshot).read()
        names = [name for name in TICKET_FILES if (snapshot / name).exists()]
        files = {name: (snapshot / name).stat().st_size for name in names}
        result = PullResult(repo, snapshot.name, snapshot, files, dry_run=False, from_cache=True)
    else:
        present = hub.files(info)
        files = {name: file.size for name, file in present.items()}
        commit = commit_of(info)
        if dry_run:
            future = RepoCache(repo).snapshot(commit)
            return PullResult(repo, commit, future, files, dry_run=True)
        snapshot = _fetch_verified(hub, commit, present, force_download=force_download)
        RepoCache(repo).name_commit(revision or "main", commit)
        result = PullResult(repo, commit, snapshot, files, dry_run=False)
    if local_dir is None:
        return result
    with replacing(local_dir, METADATA_FILE, (*TICKET_FILES, LOCAL_FILE)) as new:
        for name in result.files:
            write_to_disk(new / name, read_regular(snapshot / name, MAX_BYTES[name]))
    return replace(result, path=expanded(local_dir))


def _fetch_verified(
    hub: HubRepo, commit: str, present: dict[str, RepoFile], *, force_download: bool
) -> Path:
    """Fetch a ticket's files, ``ticket.json`` first, verify them, and return their folder."""
    for name in (METADATA_FILE, MASK_FILE):
        if name not in present:
            raise NoTicketError(f"{hub.repo} is no ticket: it has no {name}")
    paths: list[Path] = []
    try:
        paths.append(hub.fetch(present, METADATA_FILE, commit, force=force_download))
        snapshot = paths[0].parent
        _check_announced(snapshot, present)
        others = sorted(present.keys() - {METADATA_FILE})
        for name in others:
            path = hub.fetch(present, name, commit, force=force_download)
            paths.append(path)
        TicketReader(snapshot).read()
    except TicketError as error:
        for path in paths:
            RepoCache(hub.repo).evict(path)
        line = str(error).replace(f"ticket {str(paths[0].parent)!r}: ", "") if paths else str(error)
        raise TicketError(f"{hub.repo} is not a valid ticket: {line}") from error
    return snapshot


def _check_announced(snapshot: Path, present: dict[str, RepoFile]) -> None:
    """Compare the sizes in ``ticket.json`` with those on the Hub, before the download."""
    for name, size in TicketReader(snapshot).read_file_list().items():
        if name in (MASK_FILE, HEAD_FILE):
            if name not in present:
                raise TicketError(f"it lists {name}, which is not there")
            if present[name].size != size:
                raise TicketError(f"{name} has {present[name].size} bytes instead of {size}")
