"""Sharing tickets through the Hugging Face Hub: push, pull, and what others have published.

A pulled ticket lives in the Hub's own cache, shared with every other library, under the commit that
it was pulled at. Only the files of the format are asked for, each is compared with the checksum
that the Hub states, and the ticket is verified as a whole before a name (a branch or tag in the
cache, or ``local_dir``) points to it. What fails is taken out of the cache again.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
import warnings
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, get_session, hf_hub_url
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's
from huggingface_hub.hf_api import ModelInfo, RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # it does, lazily
    build_hf_headers,
    hf_raise_for_status,
)

from tamtctl.foundations.cache import check_hub_cache
from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import HubError, NoTicketError, TicketError, UsageError
from tamtctl.foundations.folders import check_target, replacing, write_to_disk
from tamtctl.foundations.hub_requests import (
    TIMEOUT,
    TRIES,
    HubRequests,
    MissingRepoError,
    MissingRevisionError,
    UnreachableError,
    broke_off,
)
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import leads_out, open_regular, read_regular
from tamtctl.foundations.public_names import LOCAL_FILE
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import MAX_WEIGHTS, reason
from tamtctl.models.declared_base import DeclaredBase
from tamtctl.ticket.bases import recode
from tamtctl.ticket.format.mask_codec import ENCODINGS
from tamtctl.ticket.format.metadata import (
    CARD_FILE,
    HEAD_FILE,
    MASK_FILE,
    MAX_CARD_BYTES,
    MAX_HEAD_BYTES,
    MAX_METADATA_BYTES,
    METADATA_FILE,
    TICKET_FILES,
    TicketReader,
)
from tamtctl.ticket.hub.cache import COMMIT, RepoCache
from tamtctl.ticket.hub.card import HUB_TAG, as_published, card, is_hub_id, own_text
from tamtctl.ticket.ticket import Ticket, resolve_ticket

_MAX_BYTES = {
    METADATA_FILE: MAX_METADATA_BYTES,
    MASK_FILE: MAX_WEIGHTS // 8,
    HEAD_FILE: MAX_HEAD_BYTES,
    CARD_FILE: MAX_CARD_BYTES,
}
_MAX_ENTRIES = 5000  # files in the top folder of a repository; a ticket has four
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# A download may take so many seconds, and another one for so many bytes.
_DOWNLOAD_SECONDS, _SLOWEST = 60.0, 10_000.0
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


@dataclass(frozen=True, repr=False)
class PushResult(Shown):
    """What a push did, or with ``dry_run`` would do.

    Attributes:
        repo: The Hub id.
        url: Where to look at it: the pull request, or the repository.
        commit: The commit that holds the ticket now; None in a dry run.
        changed: Whether there is a new commit.
        files: Name → bytes of what belongs to the ticket.
        notes: What else the user should know.
    """

    repo: str
    url: str
    commit: str | None
    changed: bool
    files: dict[str, int]
    dry_run: bool
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"notes": list(self.notes)}


@dataclass(frozen=True, repr=False)
class PullResult(Shown):
    """What a pull fetched, or with ``dry_run`` would fetch.

    Attributes:
        repo: The Hub id.
        commit: The commit it is pinned to.
        path: The ticket's folder: in the Hub's cache, or ``local_dir``.
        files: Name → bytes.
        from_cache: Whether the Hub was not reached and the ticket fetched earlier is used.
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


@dataclass(frozen=True)
class PublishedTicket:
    """One ticket of a listing of the Hub."""

    repo: str
    base_model: str
    downloads: int
    likes: int
    updated: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def push(
    ticket: Path | str,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    license_id: str | None = None,
    encoding: str | None = None,
    base_model: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    endpoint: str | None = None,
) -> PushResult:
    """Publish a ticket on the Hub, with a card; unchanged content makes no commit.

    What is sent names no path of this machine.

    Args:
        ticket: A folder or the name of a ticket.
        repo: ``org/name``; the repository is created if it does not exist.
        private: Create it private. An existing public one is refused.
        revision: A branch; created if it does not exist. By default ``main``.
        commit_message: By default one that says what the ticket is.
        create_pr: Open a pull request instead of changing ``main``.
        license_id: As the Hub names licences; by default what the card on the Hub says.
        encoding: Publish the masks in this encoding; by default in the ticket's own.
        base_model: Hub id ``org/name[@revision]`` of the model that a local folder held.
        token: By default the one of ``hf auth login`` or ``HF_TOKEN``.
        dry_run: Return what would be sent; nothing is sent or asked.
        endpoint: Another Hub; by default ``HF_ENDPOINT``.

    Raises:
        TicketError: The ticket is not valid.
        ModelError: The encoding needs the base model, and it cannot be loaded.
        UsageError: The options contradict each other.
        HubError: The Hub refuses it or cannot be reached.
    """
    _check_names(repo, revision)
    if encoding is not None:
        one_of("encoding", encoding, ENCODINGS)
    if create_pr and revision not in (None, "main"):
        raise UsageError("--create-pr proposes a change of main; leave --revision out")
    folder = resolve_ticket(ticket).path
    _refuse_links(folder)
    loaded = Ticket.load(folder)
    notes: list[str] = []
    declared = None
    if base_model is not None:
        declared = DeclaredBase.of(base_model, {n: e.sha256 for n, e in loaded.parameters.items()})
        notes.append(declared.note)
    published = as_published(loaded, declared.names if declared else None)
    files = _files_to_send(folder, loaded, published, encoding)
    draft = _read_card(folder / CARD_FILE)
    hub = _Hub(repo, revision, token, endpoint)
    describe = partial(card, published, repo=repo, license_id=license_id, draft=draft)
    if dry_run:
        files[CARD_FILE] = describe().encode()
        url = f"{hub.endpoint}/{repo}"
        return PushResult(repo, url, None, False, _lengths(files), dry_run=True, notes=tuple(notes))
    hub.need_token("pushing")
    info = hub.info_or_create(private=private)
    present = hub.files(info)
    there = ""
    if CARD_FILE in present:
        there = _read_card(hub.fetch(present, CARD_FILE, _commit_of(info)))
    files[CARD_FILE] = describe(existing=there).encode()
    if own_text(there) and own_text(draft) not in ("", own_text(there)):
        notes.append("kept the text that is on the Hub's card; yours in README.md was not sent")
    additions = [CommitOperationAdd(name, content) for name, content in files.items()]
    stale = [CommitOperationDelete(name) for name in present if name not in files]
    message = commit_message or (
        f"Ticket of {published.base_model.id} at sparsity {loaded.sparsity:.4g}, {loaded.method}"
    )
    with warnings.catch_warnings(record=True) as warned:  # what the Hub thinks of the card
        warnings.simplefilter("always")
        commit = hub.commit([*additions, *stale], message, info, create_pr=create_pr)
    notes += [" ".join(str(w.message).split()) for w in warned if w.category is UserWarning]
    return PushResult(
        repo,
        commit.pr_url or f"{hub.endpoint}/{repo}",
        commit.oid,
        commit.oid != info.sha,
        _lengths(files),
        dry_run=False,
        notes=tuple(notes),
    )


def _files_to_send(
    folder: Path, ticket: Ticket, published: Ticket, encoding: str | None
) -> dict[str, bytes]:
    """Return name → content of a ticket's files but the card."""
    if encoding not in (None, ticket.encoding):
        recoded = recode(ticket, encoding)
        return replace(published, encoding=recoded.encoding, stored=recoded.stored).files()
    if published is not ticket:
        return published.files()
    names = [name for name in TICKET_FILES if name != CARD_FILE and (folder / name).exists()]
    return {name: read_regular(folder / name, _MAX_BYTES[name]) for name in names}


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

    If the Hub cannot be reached or has a problem of its own, a ticket that was fetched earlier is
    taken from the cache; if the Hub refuses the request, it is not.

    Args:
        repo: ``org/name``.
        revision: Branch, tag or commit; by default ``main``.
        local_dir: Also copy the ticket to this folder, which must be new, empty or a ticket.
        force_download: Fetch again what the cache holds.
        token: By default the one of ``hf auth login`` or ``HF_TOKEN``.
        dry_run: Return what would be fetched; nothing is.
        endpoint: Another Hub; by default ``HF_ENDPOINT``.

    Raises:
        TicketError: What the repository holds is no valid ticket; it is not kept.
        HubError: The Hub refuses it or cannot be reached.
    """
    _check_names(repo, revision)
    if local_dir is not None:
        check_target(local_dir, METADATA_FILE)
    check_hub_cache()
    hub = _Hub(repo, revision, token, endpoint)
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
        Ticket.load(snapshot)
        names = [name for name in TICKET_FILES if (snapshot / name).exists()]
        files = {name: (snapshot / name).stat().st_size for name in names}
        result = PullResult(repo, snapshot.name, snapshot, files, dry_run=False, from_cache=True)
    else:
        present = hub.files(info)
        files = {name: file.size for name, file in present.items()}
        commit = _commit_of(info)
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
            write_to_disk(new / name, read_regular(snapshot / name, _MAX_BYTES[name]))
    return PullResult(**(vars(result) | {"path": expanded(local_dir)}))


def published_tickets(
    *, limit: int = 100, token: str | None = None, endpoint: str | None = None
) -> list[PublishedTicket]:
    """Return the tickets that are published on the Hub, found by their tag.

    Raises:
        HubError: The Hub cannot be reached.
    """
    hub = _Hub("", None, token, endpoint)
    return [
        PublishedTicket(
            repo=_plain(model.id),
            base_model=_plain(
                next((t[11:] for t in model.tags or [] if t.startswith("base_model:")), "-")
            ),
            downloads=model.downloads or 0,
            likes=model.likes or 0,
            updated=str(model.last_modified or "")[:10],
        )
        for model in hub.search(limit)
    ]


class _Hub(HubRequests):
    """The calls that sharing makes to the Hub about one repository."""

    def need_token(self, doing: str) -> None:
        """Raise HubError if there is no token to write with."""
        self.writes = True
        if not self.token:
            raise HubError(
                f"{doing} needs a token; run hf auth login, set HF_TOKEN or give --token"
            )

    def info(self) -> ModelInfo:
        """Return what the Hub says of the repository at the revision."""
        return self.ask(
            lambda: self.api.model_info(self.repo, revision=self.revision, timeout=TIMEOUT)
        )

    def info_or_create(self, *, private: bool) -> ModelInfo:
        """Return what the Hub says, after creating repository and branch where they are missing."""
        branch, self.revision = self.revision, None
        try:
            info = self.info()
        except MissingRepoError:
            self.ask(
                lambda: self.api.create_repo(self.repo, private=private or None, exist_ok=True)
            )
            info = self.info()
        if private and not info.private:
            raise HubError(
                f"{self.repo} exists and is public; make it private in its settings "
                f"({self.endpoint}/{self.repo}/settings), or leave --private out"
            )
        self.revision = branch
        if branch is None:
            return info
        try:
            return self.info()
        except MissingRevisionError:
            self.ask(lambda: self.api.create_branch(self.repo, branch=branch, exist_ok=True))
            return self.info()

    def files(self, info: ModelInfo) -> dict[str, RepoFile]:
        """Return the ticket's files that the repository holds in its top folder, by name."""

        def listed() -> list[Any]:
            tree = self.api.list_repo_tree(self.repo, revision=info.sha)
            return list(itertools.islice(tree, _MAX_ENTRIES + 1))

        entries = self.ask(listed)
        if len(entries) > _MAX_ENTRIES:
            raise HubError(f"{self.repo} holds more than {_MAX_ENTRIES} files and is no ticket")
        files = {e.path: e for e in entries if isinstance(e, RepoFile) and e.path in TICKET_FILES}
        for name, file in files.items():
            if not isinstance(file.size, int) or not _CHECKSUM.fullmatch(str(_blob(file))):
                raise HubError(f"{self.repo}: what the Hub says of {name} is not to be understood")
            if not 0 <= file.size <= _MAX_BYTES[name]:
                raise HubError(f"{self.repo}: {name} has {file.size} bytes; that many are refused")
        return files

    def fetch(
        self, present: dict[str, RepoFile], name: str, commit: str, *, force: bool = False
    ) -> Path:
        """Download one file of a commit into the cache, unless it is there, and check it."""
        cache, file = RepoCache(self.repo), present[name]
        damaged = HubError(
            f"{name} of {self.repo} came damaged: its bytes are not those that the Hub states; "
            "try again"
        )
        if not force and (path := cache.find(commit, name)):
            if not _is_intact(path, file):
                cache.evict(path, is_damaged=True)
                raise damaged
            return path

        def write(path: Path) -> None:
            with path.open("wb") as content:
                self.ask(lambda: self._download(name, commit, file.size, content))
            if not _is_intact(path, file):
                raise damaged

        return cache.put(commit, name, _blob(file), write)

    def _download(self, name: str, commit: str, size: int, content: BinaryIO) -> None:
        """Write a file of so many bytes, going on where the connection broke.

        The client would name what it writes by an answer's ETag, which may be any path.
        """
        url = hf_hub_url(self.repo, name, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=self.token or False, library_name="tamtctl")
        headers["Accept-Encoding"] = "identity"
        deadline = time.monotonic() + _DOWNLOAD_SECONDS + size / _SLOWEST
        content.seek(0)
        for attempt in range(1, TRIES + 1):
            try:
                self._append(url, headers, name, size, content, deadline)
                break
            except HTTPError as error:
                if attempt == TRIES or not broke_off(error):
                    raise
            time.sleep(attempt)
        if content.tell() < size:
            raise HubError(
                f"the download from {self.repo} broke off ({content.tell()} of {size} bytes of "
                f"{name}); try again"
            )

    def _append(
        self,
        url: str,
        headers: dict[str, str],
        name: str,
        size: int,
        content: BinaryIO,
        deadline: float,
    ) -> None:
        """Write what is still missing of a file, or all of it where the Hub sends all."""
        if start := content.tell():
            headers = headers | {"Range": f"bytes={start}-"}
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as answer:
            hf_raise_for_status(answer)
            if answer.status_code != 206:
                content.seek(0)
                content.truncate()
            for chunk in answer.iter_bytes(2**16):
                content.write(chunk)
                if content.tell() > size:
                    raise HubError(f"{self.repo}: {name} is longer than the Hub says")
                if time.monotonic() > deadline:
                    raise HubError(f"the download from {self.repo} is too slow; try again later")

    def commit(
        self, operations: list[Any], message: str, info: ModelInfo, *, create_pr: bool
    ) -> Any:
        """Commit all at once, on top of the commit that was looked at."""
        parent = info.sha if info.sha and COMMIT.fullmatch(info.sha) else None
        return self.ask(
            lambda: self.api.create_commit(
                self.repo,
                operations,
                commit_message=message,
                revision=self.revision,
                create_pr=create_pr,
                parent_commit=parent,
            ),
            tries=1,  # the client repeats what may be repeated
        )

    def search(self, limit: int) -> list[ModelInfo]:
        """Return published models with our tag, the newest first."""
        return self.ask(
            lambda: list(self.api.list_models(filter=HUB_TAG, sort="last_modified", limit=limit))
        )


def _commit_of(info: ModelInfo) -> str:
    if not COMMIT.fullmatch(str(info.sha)):
        raise HubError(f"the Hub names no commit of {_plain(info.id)}; check HF_ENDPOINT")
    return str(info.sha)


def _check_names(repo: str, revision: str | None) -> None:
    if "/" not in repo or not is_hub_id(repo):
        raise UsageError(f"{repo!r} is no name for the Hub; give one like org/name")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"--revision {revision!r} is no branch, tag or commit")


def _fetch_verified(
    hub: _Hub, commit: str, present: dict[str, RepoFile], *, force_download: bool
) -> Path:
    """Fetch a ticket's files, the one that describes the others first; return their folder."""
    for name in (METADATA_FILE, MASK_FILE):
        if name not in present:
            raise NoTicketError(f"{hub.repo} is no ticket: it has no {name}")
    paths: list[Path] = []
    try:
        paths.append(hub.fetch(present, METADATA_FILE, commit, force=force_download))
        snapshot = paths[0].parent
        _check_announced(hub.repo, snapshot, present)
        others = sorted(present.keys() - {METADATA_FILE})
        for name in others:
            path = hub.fetch(present, name, commit, force=force_download)
            paths.append(path)
        Ticket.load(snapshot)
    except TicketError as error:
        for path in paths:
            RepoCache(hub.repo).evict(path)
        line = str(error).replace(f"ticket {str(paths[0].parent)!r}: ", "") if paths else str(error)
        raise TicketError(f"{hub.repo} is not a valid ticket: {line}") from error
    return snapshot


def _check_announced(repo: str, snapshot: Path, present: dict[str, RepoFile]) -> None:
    """Compare what ``ticket.json`` lists with what the Hub holds, before it is downloaded."""
    for name, size in TicketReader(snapshot).read_file_list().items():
        if name in (MASK_FILE, HEAD_FILE):
            if name not in present:
                raise TicketError(f"it lists {name}, which is not there")
            if present[name].size != size:
                raise TicketError(f"{name} has {present[name].size} bytes instead of {size}")


def _blob(file: RepoFile) -> str:
    """Return the checksum under which the cache keeps a file, as the Hub states it."""
    return file.blob_id if file.lfs is None else file.lfs.sha256


def _is_intact(path: Path, file: RepoFile) -> bool:
    """Compare a file with its git blob id, or with its SHA-256 if it is in large-file storage."""
    with open_regular(path) as stream:
        if file.lfs is not None:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.lfs.sha256
        content = stream.read(file.size + 1)
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob_id


def _read_card(path: Path) -> str:
    try:
        return read_regular(path, MAX_CARD_BYTES).decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise TicketError(f"{path.name} is not UTF-8; save it as such") from error
    except OSError as error:
        raise TicketError(f"cannot read {path.name}: {reason(error)}") from error


def _refuse_links(folder: Path) -> None:
    """Refuse to publish what a link leads to: in a stranger's folder it may be any file of ours."""
    for name in TICKET_FILES:
        if leads_out(folder, name):
            raise TicketError(
                f"ticket {str(folder)!r}: {name} is a link that leads out of the folder; "
                "put the file itself there to publish it"
            )


def _lengths(files: dict[str, bytes]) -> dict[str, int]:
    return {name: len(content) for name, content in files.items()}


def _plain(text: str) -> str:
    return reason(Exception(text))
