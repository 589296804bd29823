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
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoFile

from tamtctl.bases import recode
from tamtctl.card import HUB_TAG, as_published, card, is_hub_id, own_text
from tamtctl.config import one_of
from tamtctl.declared_base import DeclaredBase
from tamtctl.errors import HubError, TicketError, UsageError
from tamtctl.folders import check_target, replacing, write_to_disk
from tamtctl.mask_coding import ENCODINGS
from tamtctl.paths import expanded
from tamtctl.public_names import LOCAL_FILE
from tamtctl.ticket import Ticket, resolve_ticket
from tamtctl.ticket_format import (
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
from tamtctl.untrusted import MAX_WEIGHTS, reason

_MAX_BYTES = {
    METADATA_FILE: MAX_METADATA_BYTES,
    MASK_FILE: MAX_WEIGHTS // 8,
    HEAD_FILE: MAX_HEAD_BYTES,
    CARD_FILE: MAX_CARD_BYTES,
}
_MAX_ENTRIES = 5000  # files in the top folder of a repository; a ticket has four
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_TOKEN = re.compile(r"[!-~]+")  # what an HTTP header can carry
_TIMEOUT = 20.0  # seconds without an answer
_TRIES = 3
_LONGEST_WAIT = 30.0  # seconds that the Hub may ask for; it is told to the user if it is more

T = TypeVar("T")


@dataclass(frozen=True)
class PushResult:
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


@dataclass(frozen=True)
class PullResult:
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
    there = _read_card(hub.fetch(present, CARD_FILE, info)) if CARD_FILE in present else ""
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
    return {name: (folder / name).read_bytes() for name in names}


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
    hub = _Hub(repo, revision, token, endpoint)
    try:
        info = hub.info()
    except _UnreachableError as error:
        snapshot = _cached_snapshot(repo, revision or "main")
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
        commit = str(info.sha)
        if dry_run:
            future = _storage(repo) / "snapshots" / commit
            return PullResult(repo, commit, future, files, dry_run=True)
        snapshot = _fetch_verified(hub, info, present, force_download=force_download)
        _name_commit(repo, revision or "main", commit)
        result = PullResult(repo, commit, snapshot, files, dry_run=False)
    if local_dir is None:
        return result
    with replacing(local_dir, METADATA_FILE, (*TICKET_FILES, LOCAL_FILE)) as new:
        for name in result.files:
            write_to_disk(new / name, (snapshot / name).read_bytes())
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


def pulled_tickets() -> dict[str, Path]:
    """Return name → folder of the tickets in the Hub's cache, for `resolve_ticket`'s names.

    The ticket that a branch or tag names is called ``org/name@branch``, and ``org/name`` if it is
    the one of ``main``.
    """
    found: dict[str, Path] = {}
    for storage in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        repo = storage.name.removeprefix("models--").replace("--", "/")
        refs = storage / "refs"
        for ref in sorted(path for path in refs.rglob("*") if path.is_file()):
            name = ref.relative_to(refs).as_posix()
            folder = storage / "snapshots" / ref.read_text(encoding="utf-8", errors="replace")
            if _COMMIT.fullmatch(folder.name) and (folder / METADATA_FILE).exists():
                found[repo if name == "main" else f"{repo}@{name}"] = folder
    return found


class _UnreachableError(HubError):
    """The Hub does not answer, or offline mode is on: a copy in the cache may do."""


class _Hub:
    """The calls that tamtctl makes to the Hub about one repository; each fails with one line."""

    def __init__(
        self, repo: str, revision: str | None, token: str | None, endpoint: str | None
    ) -> None:
        self.repo, self.revision = repo, revision
        self._token = token or huggingface_hub.get_token()
        if self._token and not _TOKEN.fullmatch(self._token):
            raise UsageError("the token holds characters that no token has; copy it again")
        self._api = HfApi(endpoint=endpoint, token=self._token or False, library_name="tamtctl")
        self.endpoint = self._api.endpoint

    def need_token(self, doing: str) -> None:
        """Raise HubError if there is no token."""
        if not self._token:
            raise HubError(
                f"{doing} needs a token; run hf auth login, set HF_TOKEN or give --token"
            )

    def info(self) -> ModelInfo:
        """Return what the Hub says of the repository at the revision."""
        return self._ask(
            lambda: self._api.model_info(self.repo, revision=self.revision, timeout=_TIMEOUT)
        )

    def info_or_create(self, *, private: bool) -> ModelInfo:
        """Return what the Hub says, after creating repository and branch where they are missing."""
        branch, self.revision = self.revision, None
        try:
            info = self.info()
        except _MissingRepoError:
            self._ask(
                lambda: self._api.create_repo(self.repo, private=private or None, exist_ok=True)
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
        except _MissingRevisionError:
            self._ask(lambda: self._api.create_branch(self.repo, branch=branch, exist_ok=True))
            return self.info()

    def files(self, info: ModelInfo) -> dict[str, RepoFile]:
        """Return the ticket's files that the repository holds in its top folder, by name."""

        def listed() -> list[Any]:
            tree = self._api.list_repo_tree(self.repo, revision=info.sha)
            return list(itertools.islice(tree, _MAX_ENTRIES + 1))

        entries = self._ask(listed)
        if len(entries) > _MAX_ENTRIES:
            raise HubError(f"{self.repo} holds more than {_MAX_ENTRIES} files and is no ticket")
        files = {e.path: e for e in entries if isinstance(e, RepoFile) and e.path in TICKET_FILES}
        for name, file in files.items():
            if file.size > _MAX_BYTES[name]:
                raise HubError(f"{self.repo}: {name} has {file.size} bytes; that many are refused")
        return files

    def fetch(
        self, present: dict[str, RepoFile], name: str, info: ModelInfo, *, force: bool = False
    ) -> Path:
        """Download one file of a commit into the cache and compare it with its checksum."""
        path = Path(
            self._ask(
                lambda: huggingface_hub.hf_hub_download(
                    self.repo,
                    name,
                    revision=info.sha,
                    token=self._token or False,
                    endpoint=self.endpoint,
                    force_download=force,
                    library_name="tamtctl",
                )
            )
        )
        if not _is_intact(path, present[name]):
            _evict(path, is_damaged=True)
            raise HubError(
                f"{name} of {self.repo} came damaged: its bytes are not those that the Hub states; "
                "try again"
            )
        return path

    def commit(
        self, operations: list[Any], message: str, info: ModelInfo, *, create_pr: bool
    ) -> Any:
        """Commit all at once, on top of the commit that was looked at."""
        parent = info.sha if info.sha and _COMMIT.fullmatch(info.sha) else None
        return self._ask(
            lambda: self._api.create_commit(
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
        return self._ask(
            lambda: list(self._api.list_models(filter=HUB_TAG, sort="last_modified", limit=limit))
        )

    def _ask(self, request: Callable[[], T], tries: int = _TRIES) -> T:
        """Make a request, again after a while if the Hub is busy."""
        for attempt in range(1, tries + 1):
            with self._one_line():
                try:
                    return request()
                except HfHubHTTPError as error:
                    wait = _seconds_to_wait(error, attempt)
                    if attempt == tries or wait is None or wait > _LONGEST_WAIT:
                        raise
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turn whatever the client raises into one line that holds no token."""
        try:
            yield
        except (EntryNotFoundError, HTTPError, OfflineModeIsEnabled) as error:
            raise self._explained(error) from error
        except OSError as error:
            if error.errno is not None:
                raise  # of the disk, not of the Hub
            raise HubError(
                f"the download from {self.repo} broke off ({self._safe(error)}); try again"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise self._strange(error) from error

    def _explained(self, error: Exception) -> HubError:
        where = f"{self.repo} at revision {self.revision}" if self.revision else self.repo
        match error:
            case OfflineModeIsEnabled():
                return _UnreachableError("HF_HUB_OFFLINE is set; unset it to ask the Hub")
            case LocalEntryNotFoundError():
                cause = error.__cause__
                if isinstance(cause, HTTPError | OfflineModeIsEnabled):
                    return self._explained(cause)
                return _UnreachableError(f"the Hub at {self.endpoint} cannot be reached; try again")
            case GatedRepoError():
                return HubError(
                    f"{self.repo} is gated; ask for access at {self.endpoint}/{self.repo}, "
                    "then log in with hf auth login"
                )
            case RevisionNotFoundError():
                return _MissingRevisionError(
                    f"{self.repo} has no revision {self.revision!r}; leave --revision out for main"
                )
            case RepositoryNotFoundError():
                return _MissingRepoError(self._not_found())
            case EntryNotFoundError():
                return HubError(f"{where} lacks a file that it lists; try again")
            case HfHubHTTPError():
                return self._refused(error)
        return _UnreachableError(
            f"the Hub at {self.endpoint} cannot be reached ({self._safe(error)}); "
            "check the network and HF_ENDPOINT"
        )

    def _not_found(self) -> str:
        if self._token:
            return (
                f"there is no {self.repo} on the Hub that this token can see; check the name, "
                "and whether the token is the right one"
            )
        return (
            f"there is no {self.repo} on the Hub, or it is private; check the name, "
            "or log in with hf auth login, HF_TOKEN or --token"
        )

    def _refused(self, error: HfHubHTTPError) -> HubError:
        status = error.response.status_code
        if status == 401:
            if self._token:
                return HubError(
                    "the Hub does not accept the token; get a new one at "
                    f"{self.endpoint}/settings/tokens and log in with hf auth login"
                )
            return _MissingRepoError(self._not_found())
        if status == 403:
            said = self._safe(error.server_message or "forbidden")
            return HubError(
                f"the token may not do this with {self.repo} ({said}); use one that can write"
            )
        if status == 404:
            return _MissingRepoError(self._not_found())
        if status == 412:
            return HubError(f"{self.repo} was changed by somebody else meanwhile; push again")
        if status == 429:
            seconds = error.response.headers.get("Retry-After")
            again = f" in {seconds} seconds" if seconds and seconds.isdigit() else " later"
            return HubError(f"the Hub asks for fewer requests (status 429); try again{again}")
        if status >= 500:
            return _UnreachableError(
                f"the Hub has a problem of its own (status {status}); try again later"
            )
        said = self._safe(error.server_message or error)
        return HubError(f"the Hub refuses the request for {self.repo} (status {status}: {said})")

    def _strange(self, error: Exception) -> HubError:
        if "Invalid metadata in README.md" in str(error):
            said = self._safe(" ".join(str(error).split()))
            return HubError(f"the Hub does not accept the card: {said}")
        if isinstance(error.__cause__, HTTPError | OfflineModeIsEnabled):
            return self._explained(error.__cause__)
        return HubError(
            f"the Hub at {self.endpoint} gives an answer that is none of the Hub's "
            f"({type(error).__name__}: {self._safe(error)}); check HF_ENDPOINT and the network"
        )

    def _safe(self, said: object) -> str:
        """Return the first line of a foreign message without the token."""
        text = next((line for line in str(said).splitlines() if line.strip()), "")
        text = reason(Exception(text.strip()))
        return text.replace(self._token, "***") if self._token else text


class _MissingRepoError(HubError):
    """No such repository, as far as the token can see."""


class _MissingRevisionError(HubError):
    """No such branch, tag or commit."""


def _check_names(repo: str, revision: str | None) -> None:
    if "/" not in repo or not is_hub_id(repo):
        raise UsageError(f"{repo!r} is no name for the Hub; give one like org/name")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"--revision {revision!r} is no branch, tag or commit")


def _seconds_to_wait(error: HfHubHTTPError, attempt: int) -> float | None:
    """Return how long to wait before asking again, or None if that would not help."""
    status = error.response.status_code
    if status != 429 and status < 500:
        return None
    asked = error.response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else float(attempt)


def _fetch_verified(
    hub: _Hub, info: ModelInfo, present: dict[str, RepoFile], *, force_download: bool
) -> Path:
    """Fetch a ticket's files, the one that describes the others first; return their folder."""
    for name in (METADATA_FILE, MASK_FILE):
        if name not in present:
            raise TicketError(f"{hub.repo} is no ticket: it has no {name}")
    paths: list[Path] = []
    try:
        paths.append(hub.fetch(present, METADATA_FILE, info, force=force_download))
        snapshot = paths[0].parent
        _check_announced(hub.repo, snapshot, present)
        others = sorted(present.keys() - {METADATA_FILE})
        for name in others:
            path = hub.fetch(present, name, info, force=force_download)
            paths.append(path)
        Ticket.load(snapshot)
    except TicketError as error:
        for path in paths:
            _evict(path)
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


def _is_intact(path: Path, file: RepoFile) -> bool:
    """Compare a file with its git blob id, or with its SHA-256 if it is in large-file storage."""
    with path.open("rb") as stream:
        if file.lfs is not None:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.lfs.sha256
        content = stream.read(_MAX_BYTES[path.name])
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob_id


def _evict(path: Path, *, is_damaged: bool = False) -> None:
    """Take a file of a snapshot out of the cache, and its content unless another one needs it."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    others = path.parent.parent.glob(f"*/{path.name}")
    if is_damaged or not any(other.resolve() == content for other in others):
        content.unlink(missing_ok=True)
    if path.parent.exists() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _storage(repo: str) -> Path:
    name = huggingface_hub.constants.REPO_ID_SEPARATOR.join(["models", *repo.split("/")])
    return Path(constants.HF_HUB_CACHE) / name


def _cached_snapshot(repo: str, revision: str) -> Path | None:
    found = huggingface_hub.try_to_load_from_cache(repo, METADATA_FILE, revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _name_commit(repo: str, revision: str, commit: str) -> None:
    """Let a branch or tag in the cache point to a commit, as the Hub's client does.

    The client would do so before the first download, when nothing has been verified yet.
    """
    if revision == commit:
        return
    ref = _storage(repo) / "refs" / revision
    if ref.is_file() and ref.read_text(encoding="utf-8") == commit:
        return
    ref.parent.mkdir(parents=True, exist_ok=True)
    new = _storage(repo) / f".ref-{secrets.token_hex(4)}"
    new.write_text(commit, encoding="utf-8")
    new.replace(ref)


def _read_card(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise TicketError(f"{path.name} has more than {MAX_CARD_BYTES} bytes; shorten it")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise TicketError(f"{path.name} is not UTF-8; save it as such") from error


def _lengths(files: dict[str, bytes]) -> dict[str, int]:
    return {name: len(content) for name, content in files.items()}


def _plain(text: str) -> str:
    return reason(Exception(text))
