"""Finding a ticket by its name, and the base model of a ticket."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tamtctl.foundations.errors import HubError, ModelError, NoTicketError, TicketError, UsageError
from tamtctl.foundations.paths import exists, expanded
from tamtctl.foundations.public_names import LocalPaths
from tamtctl.foundations.untrusted import show
from tamtctl.ticket.format.metadata import BaseModel
from tamtctl.ticket.local_names import METADATA_FILE, packaged_tickets
from tamtctl.training.run_folder import RECOVERED_MODEL, is_run


@dataclass(frozen=True)
class ResolvedTicket:
    """The folder of a ticket, and the kind of name by which it was found."""

    path: Path
    kind: Literal["path", "packaged", "hub"]


# The syntax of Hub ids, so that a mistyped path is not looked for on the Hub.
_HUB_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)


def resolve_ticket(
    name: Path | str, *, revision: str | None = None, token: str | None = None
) -> ResolvedTicket:
    """Find a ticket: an existing path comes first, then a packaged name, then a Hub id.

    A ticket of the Hub is fetched into the Hub's cache unless it is there already.

    Args:
        name: A folder, a packaged name, ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit, for a ticket on the Hub.
        token: For a private ticket on the Hub.

    Raises:
        TicketError: There is no ticket of this name.
        UsageError: A revision is given for another ticket, or two different ones.
        HubError: The Hub refuses the request or cannot be reached, and no copy is in the cache.
    """
    path = expanded(name)
    if os.path.isdir(path):  # noqa: PTH112, Path.is_dir raises for a name that is too long
        if exists(path / "ticket" / METADATA_FILE) and not exists(path / METADATA_FILE):
            raise TicketError(f"{str(name)!r} is a run; its ticket is {str(path / 'ticket')!r}")
        if is_run(path) and not exists(path / METADATA_FILE):
            advice = "give that of another"
            if exists(model := path / RECOVERED_MODEL):
                advice = f"its model is {str(model)!r}"
            raise TicketError(f"{str(name)!r} is a run without a ticket; {advice}")
        _refuse_revision(revision, f"{str(name)!r} is a folder")
        return ResolvedTicket(path, "path")
    packaged = packaged_tickets()
    if str(name) in packaged:
        _refuse_revision(revision, f"{name} is packaged with tamtctl")
        return ResolvedTicket(packaged[str(name)], "packaged")
    if exists(path):
        raise NoTicketError(f"{str(name)!r} is a file; give the folder of a ticket")
    if match := _HUB_NAME.fullmatch(str(name)):
        from tamtctl.ticket.hub.pulling import pull

        wanted = revision or match["revision"]
        if match["revision"] not in (None, wanted):
            raise UsageError(f"{str(name)!r} and revision {revision!r} contradict each other")
        try:
            return ResolvedTicket(pull(match["repo"], revision=wanted, token=token).path, "hub")
        except HubError as error:
            raise HubError(f"no folder {str(name)!r} here, and {error}") from error
    known = ", ".join(packaged) or "none"
    raise NoTicketError(f"no ticket {show(str(name))}: no such folder, and packaged are: {known}")


def _refuse_revision(revision: str | None, why: str) -> None:
    if revision is not None:
        raise UsageError(f"{why}, and revision {revision!r} is for a ticket on the Hub")


def locate_base(base: BaseModel, places: LocalPaths) -> tuple[str, str | None]:
    """Return name and revision by which to load a ticket's base model on this machine.

    Raises:
        ModelError: The ticket names a local folder that does not exist here.
    """
    if places.model is not None and exists(expanded(places.model)):
        return places.model, None
    is_local = base.revision is None and base.id != "nano" and "/" not in base.id
    if is_local and not exists(Path(base.id)):
        was = f" ({show(places.model)} is gone)" if places.model else ""
        raise ModelError(
            f"the ticket is for a model in a folder called {show(base.id)}{was}; "
            "give that folder with --model"
        )
    return base.id, base.revision


def refuse_twice(paths: Iterable[tuple[str, Path]], what: str) -> None:
    """Raise UsageError if two names are of one folder.

    Args:
        paths: (name as the user gave it, folder).
        what: What the folders are, such as ``ticket``.
    """
    for (one, path), (other, its_path) in itertools.combinations(paths, 2):
        if path.resolve() == its_path.resolve():
            raise UsageError(f"{one!r} and {other!r} are one and the same {what}; give it once")
