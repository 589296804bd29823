"""Publishing a ticket on the Hub, with its card."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.foundations.plain_files import leads_out, read_regular
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import reason
from tamtctl.models.declared_base import DeclaredBase
from tamtctl.ticket.base_model import recode
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.format.mask_codec import ENCODINGS
from tamtctl.ticket.format.metadata import (
    CARD_FILE,
    MAX_CARD_BYTES,
    TICKET_FILES,
)
from tamtctl.ticket.hub.card import as_published, card, own_text
from tamtctl.ticket.hub.card_text import pull_command
from tamtctl.ticket.hub.client import MAX_BYTES, HubRepo, check_names, commit_of
from tamtctl.ticket.licence import asked_licence, base_licence, doubts
from tamtctl.ticket.stored import StoredTicket


@dataclass(frozen=True, repr=False)
class PushResult(Shown):
    """The result of a push, or with ``dry_run`` what it would do.

    Attributes:
        repo: The Hub id.
        url: The address of the pull request or the repository.
        commit: The commit that holds the ticket; None in a dry run.
        changed: Whether there is a new commit.
        files: Name → size in bytes, of the files of the ticket.
        dry_run: Whether nothing was sent.
        notes: Notes for the user, a line each.
        branch: The branch or the reference of the pull request that holds the ticket; None for
            ``main``.
    """

    repo: str
    url: str
    commit: str | None
    changed: bool
    files: dict[str, int]
    dry_run: bool
    notes: tuple[str, ...] = ()
    branch: str | None = None

    @property
    def pull_command(self) -> str:
        """The command that fetches the ticket."""
        return pull_command(self.repo, self.branch)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"notes": list(self.notes)}


def push(
    ticket: Path | str,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    license: str | None = None,  # noqa: A002, as the option is called
    license_id: str | None = None,
    encoding: str | None = None,
    base_model: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    endpoint: str | None = None,
) -> PushResult:
    """Publish a ticket on the Hub, with a card; unchanged content makes no commit.

    The files that are sent contain no path of this machine.

    Args:
        ticket: A folder or the name of a ticket.
        repo: ``org/name``; the repository is created if it does not exist.
        private: Make the new repository private. An existing public one is refused.
        revision: A branch; created if it does not exist. By default ``main``.
        commit_message: Message of the commit; by default it describes the ticket.
        create_pr: Open a pull request instead of changing ``main``.
        license: The Hub's name of a licence; by default that of the card on the Hub, else that of
            the base model, if it is known.
        license_id: The earlier name of ``license``.
        encoding: Publish the masks in this encoding; by default in the ticket's own.
        base_model: Hub id ``org/name[@revision]`` of the model that a local folder held.
        token: Hub token; by default the one of ``hf auth login`` or ``HF_TOKEN``.
        dry_run: Return what would be sent; the Hub is not called.
        endpoint: URL of another Hub; by default ``HF_ENDPOINT``.

    Raises:
        TicketError: The ticket is not valid.
        ModelError: The encoding needs the base model, which cannot be loaded.
        UsageError: The options contradict each other.
        HubError: The Hub refuses the request or cannot be reached.

    Example:
        >>> sent = tamtctl.push("nano-0.7", "my-name/nano-ticket", dry_run=True)
        >>> sorted(sent.files)
        ['README.md', 'mask.safetensors', 'ticket.json']
    """
    check_names(repo, revision)
    if encoding is not None:
        one_of("encoding", encoding, ENCODINGS)
    if None not in (license, license_id):
        raise UsageError("license and license_id are one setting; give one")
    branch = None if revision == "main" else revision
    if create_pr and branch is not None:
        raise UsageError("--create-pr proposes a change of main; leave --revision out")
    parcel = _Parcel.of(ticket, encoding, base_model)
    hub = HubRepo(repo, revision, token, endpoint)
    describe = partial(parcel.with_card, repo=repo, branch=branch, license_id=license or license_id)
    if dry_run:
        files, notes = describe("", parcel.base_license)
        url = f"{hub.endpoint}/{repo}"
        return PushResult(repo, url, None, False, _lengths(files), True, notes, branch)
    hub.need_token("pushing")
    info = hub.info_or_create(private=private)
    present = hub.files(info)
    there = ""
    if CARD_FILE in present:
        there = _read_card(hub.fetch(present, CARD_FILE, commit_of(info)))
    base_license = parcel.base_license or asked_licence(parcel.published, token, endpoint)
    files, notes = describe(there, base_license)
    operations = [
        *(CommitOperationAdd(name, content) for name, content in files.items()),
        *(CommitOperationDelete(name) for name in present if name not in files),
    ]
    message = commit_message or parcel.message
    with warnings.catch_warnings(record=True) as warned:  # the Hub's about the card
        warnings.simplefilter("always")
        commit = hub.commit(operations, message, info, create_pr=create_pr)
    said = (" ".join(str(w.message).split()) for w in warned if w.category is UserWarning)
    return PushResult(
        repo,
        commit.pr_url or f"{hub.endpoint}/{repo}",
        commit.oid,
        commit.oid != info.sha,
        _lengths(files),
        dry_run=False,
        notes=(*notes, *said),
        branch=commit.pr_revision or branch,
    )


@dataclass(frozen=True)
class _Parcel:
    """A ticket to be published.

    Attributes:
        published: The ticket, without paths of this machine.
        files: Name → content of its files, without the card.
        draft: The card in its folder.
        notes: Notes for the user, a line each.
        base_license: The licence of its base model; None if that is not known here.
    """

    published: StoredTicket
    files: dict[str, bytes]
    draft: str
    notes: tuple[str, ...]
    base_license: str | None

    @classmethod
    def of(cls, ticket: Path | str, encoding: str | None, base_model: str | None) -> _Parcel:
        """Read a ticket, and check what is declared of it."""
        folder = resolve_ticket(ticket).path
        _refuse_links(folder)
        loaded = StoredTicket.load(folder)
        declared = None
        if base_model is not None:
            hashes = {name: entry.sha256 for name, entry in loaded.parameters.items()}
            declared = DeclaredBase.of(base_model, hashes)
        published = as_published(loaded, declared.names if declared else None)
        return cls(
            published,
            _files_to_send(folder, loaded, published, encoding),
            _read_card(folder / CARD_FILE),
            (declared.note,) if declared else (),
            base_licence(loaded),
        )

    def with_card(
        self,
        there: str,
        base_license: str | None,
        *,
        repo: str,
        branch: str | None,
        license_id: str | None,
    ) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """Return all files with the card, and notes; ``there`` is the card on the Hub."""
        text = card(
            self.published, repo=repo, branch=branch, license_id=license_id,
            base_license=base_license, existing=there, draft=self.draft,
        )  # fmt: skip
        notes = [*self.notes, *doubts(self.published, base_license, text)]
        if own_text(there) and own_text(self.draft) not in ("", own_text(there)):
            notes.append("kept the text that is on the Hub's card; yours in README.md was not sent")
        return self.files | {CARD_FILE: text.encode()}, tuple(notes)

    @property
    def message(self) -> str:
        """The message of a commit."""
        ticket = self.published
        return (
            f"Ticket of {ticket.base_model.id} at sparsity {ticket.sparsity:.4g}, {ticket.method}"
        )


def _files_to_send(
    folder: Path, ticket: StoredTicket, published: StoredTicket, encoding: str | None
) -> dict[str, bytes]:
    """Return name → content of a ticket's files, without the card."""
    if encoding not in (None, ticket.encoding):
        recoded = recode(ticket, encoding)
        return replace(published, encoding=recoded.encoding, stored=recoded.stored).files()
    if published is not ticket:
        return published.files()
    names = [name for name in TICKET_FILES if name != CARD_FILE and (folder / name).exists()]
    return {name: read_regular(folder / name, MAX_BYTES[name]) for name in names}


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
    """Refuse a folder with links: in a stranger's folder they may lead to any private file."""
    for name in TICKET_FILES:
        if leads_out(folder, name):
            raise TicketError(
                f"ticket {str(folder)!r}: {name} is a link that leads out of the folder; "
                "put the file itself there to publish it"
            )


def _lengths(files: dict[str, bytes]) -> dict[str, int]:
    return {name: len(content) for name, content in files.items()}
