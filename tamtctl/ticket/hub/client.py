"""Calls to the Hub about one repository: its files, downloads and commits."""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import get_session, hf_hub_url
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's
from huggingface_hub.hf_api import ModelInfo, RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # it does, lazily
    build_hf_headers,
    hf_raise_for_status,
)

from tamtctl.foundations.errors import HubError, UsageError
from tamtctl.foundations.hub_requests import (
    TIMEOUT,
    TRIES,
    HubRequests,
    MissingRepoError,
    MissingRevisionError,
    broke_off,
)
from tamtctl.foundations.plain_files import open_regular
from tamtctl.foundations.untrusted import MAX_WEIGHTS, first_line
from tamtctl.ticket.format.metadata import (
    CARD_FILE,
    HEAD_FILE,
    MASK_FILE,
    MAX_CARD_BYTES,
    MAX_HEAD_BYTES,
    MAX_METADATA_BYTES,
    METADATA_FILE,
    TICKET_FILES,
)
from tamtctl.ticket.hub.cache import COMMIT, RepoCache
from tamtctl.ticket.hub.card import HUB_TAG
from tamtctl.ticket.hub.names import is_hub_id

MAX_BYTES = {
    METADATA_FILE: MAX_METADATA_BYTES,
    MASK_FILE: MAX_WEIGHTS // 8,
    HEAD_FILE: MAX_HEAD_BYTES,
    CARD_FILE: MAX_CARD_BYTES,
}
_MAX_ENTRIES = 5000  # entries of a repository's top folder that are listed; a ticket has four files
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Seconds that a download may take, plus one second for each so many bytes.
_DOWNLOAD_SECONDS, _SLOWEST = 60.0, 10_000.0
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


class HubRepo(HubRequests):
    """The calls to the Hub about one repository that pushing and pulling make."""

    def need_token(self, doing: str) -> None:
        """Check that there is a token.

        Args:
            doing: What it is needed for, for the error.

        Raises:
            HubError: There is none.
        """
        self.writes = True
        if not self.token:
            raise HubError(
                f"{doing} needs a token; run hf auth login, set HF_TOKEN or give --token"
            )

    def info(self) -> ModelInfo:
        """Return the Hub's information on the repository at the revision."""
        return self.ask(
            lambda: self.api.model_info(self.repo, revision=self.revision, timeout=TIMEOUT)
        )

    def info_or_create(self, *, private: bool) -> ModelInfo:
        """Return that information, after creating the repository and branch if they are missing."""
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
        """Return name → file, for files of a ticket in the repository's top folder."""

        def listed() -> list[Any]:
            tree = self.api.list_repo_tree(self.repo, revision=info.sha)
            return list(itertools.islice(tree, _MAX_ENTRIES + 1))

        entries = self.ask(listed)
        if len(entries) > _MAX_ENTRIES:
            raise HubError(f"{self.repo} holds more than {_MAX_ENTRIES} files and is no ticket")
        files = {e.path: e for e in entries if isinstance(e, RepoFile) and e.path in TICKET_FILES}
        for name, file in files.items():
            if not isinstance(file.size, int) or not _CHECKSUM.fullmatch(str(_blob(file))):
                raise HubError(f"{self.repo}: the entry of {name} on the Hub cannot be read")
            if not 0 <= file.size <= MAX_BYTES[name]:
                raise HubError(
                    f"{self.repo}: {name} has {file.size} bytes, more than a ticket may have"
                )
        return files

    def fetch(
        self, present: dict[str, RepoFile], name: str, commit: str, *, force: bool = False
    ) -> Path:
        """Download a file of a commit into the cache, unless it is there, and check it."""
        cache, file = RepoCache(self.repo), present[name]
        damaged = HubError(
            f"{name} of {self.repo} came damaged: its bytes are not those that the Hub states; "
            "try again"
        )
        if not force and (path := cache.find(commit, name)):
            if not is_intact(path, file):
                cache.evict(path, is_damaged=True)
                raise damaged
            return path

        def write(path: Path) -> None:
            with path.open("wb") as content:
                self.ask(lambda: self._download(name, commit, file.size, content))
            if not is_intact(path, file):
                raise damaged

        return cache.put(commit, name, _blob(file), write)

    def _download(self, name: str, commit: str, size: int, content: BinaryIO) -> None:
        """Download a file of ``size`` bytes, and go on after a broken connection.

        The Hub's client is not used, as it names files by the ETag of an answer, which may be any
        path.
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
        """Download the missing rest of a file, or all of it if the Hub sends all."""
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
        """Make one commit of all operations, on top of the commit in ``info``."""
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
            tries=1,  # the client itself retries where that is safe
        )

    def search(self, limit: int) -> list[ModelInfo]:
        """Return published models with the tag of tickets, the newest first."""
        return self.ask(
            lambda: list(self.api.list_models(filter=HUB_TAG, sort="last_modified", limit=limit))
        )


def commit_of(info: ModelInfo) -> str:
    """Return the commit in an answer of the Hub.

    Raises:
        HubError: The answer names no commit.
    """
    if not COMMIT.fullmatch(str(info.sha)):
        raise HubError(f"the Hub names no commit of {first_line(info.id)}; check HF_ENDPOINT")
    return str(info.sha)


def check_names(repo: str, revision: str | None) -> None:
    """Check that a repository and a revision can be names on the Hub.

    Raises:
        UsageError: One of them cannot.
    """
    if not isinstance(repo, str) or "/" not in repo or not is_hub_id(repo):
        raise UsageError(f"{repo!r} is no name for the Hub; give one like org/name")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"--revision {revision!r} is no branch, tag or commit")


def _blob(file: RepoFile) -> str:
    """Return the checksum that the Hub states for a file; the cache stores it under that name."""
    return file.blob_id if file.lfs is None else file.lfs.sha256


def is_intact(path: Path, file: RepoFile) -> bool:
    """Return whether a file has its git blob id, or its SHA-256 if it is in large-file storage."""
    with open_regular(path) as stream:
        if file.lfs is not None:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.lfs.sha256
        content = stream.read(file.size + 1)
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob_id
