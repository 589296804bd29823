"""Listing the tickets at hand: packaged ones, those of runs, and those pulled from the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.folders import folder_size
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import reason
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.format.reader import TicketReader
from tamtctl.ticket.hub.cache import pulled_tickets
from tamtctl.ticket.local_names import packaged_tickets
from tamtctl.ticket.measured import Measured
from tamtctl.training.run_folder import RUNS, TICKET

Kind = Literal["packaged", "run", "hub"]
ORDERS = ("date", "name", "loss", "sparsity", "size")


@dataclass(frozen=True)
class TicketLine:
    """One ticket of a listing.

    Attributes:
        name: The name by which every command finds it.
        path: Its folder.
        sparsity: Measured share of zeros.
        method: The method that found its masks.
        objective: What they were trained for; None without training.
        base_model: Hub id, ``nano``, or the last part of a folder's path.
        bytes: Size of its folder.
        kind: Where it is: ``packaged``, ``run`` or ``hub``.
        created: When it was made, ISO 8601.
        loss: Its held-out loss; None if the ticket states none.
        unit: The unit of the loss.
        sparsities: ``embeddings`` and ``layers`` → share of zeros; empty if all matrices have the
            same.
        pattern: Its pattern; None if it is unstructured.
    """

    name: str
    path: Path
    sparsity: float
    method: str
    objective: str | None
    base_model: str
    bytes: int
    kind: Kind = "run"
    created: str = ""
    loss: float | None = None
    unit: str | None = None
    sparsities: dict[str, float] = field(default_factory=dict)
    pattern: str | None = None

    @property
    def time(self) -> datetime:
        """The time when it was made, in UTC."""
        made = datetime.fromisoformat(self.created)
        try:
            return made.astimezone(UTC)
        except OverflowError:  # within a day of the first or last possible date
            return made.replace(tzinfo=UTC)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self) | {"path": str(self.path)}
        if self.pattern is None:
            del values["pattern"]
        return values


@dataclass(frozen=True)
class DamagedTicket:
    """A folder that should be a ticket but is not a valid one.

    Attributes:
        name: The name that the ticket would have.
        path: The folder.
        problem: What is wrong, in one line.
    """

    name: str
    path: Path
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"path": str(self.path)}


@dataclass(frozen=True, repr=False)
class Listing(Shown):
    """All tickets at hand.

    Attributes:
        tickets: The tickets, in the order that was asked for.
        damaged: The damaged tickets, by name.
    """

    tickets: list[TicketLine]
    damaged: list[DamagedTicket]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "tickets": [one.to_dict() for one in self.tickets],
            "damaged": [one.to_dict() for one in self.damaged],
        }


def list_tickets(sort: str = "date") -> Listing:
    """List the packaged tickets, those under ``runs/``, and those pulled from the Hub.

    Metadata and file sizes are checked, masks are not;
    `tamtctl.ticket.inspection.inspect_ticket` verifies these, too.

    Args:
        sort: ``date``, the newest first; ``name``; ``loss``, the lowest first within each model and
            unit, as others cannot be compared; ``sparsity``, the lowest first; or ``size``, the
            largest first.

    Raises:
        UsageError: There is no such order.

    Example:
        >>> [one.name for one in tamtctl.list_tickets("sparsity").tickets if one.kind == "packaged"]
        ['nano-0.5', 'nano-0.7', 'nano-0.8', 'nano-0.9']
    """
    one_of("sort", sort, ORDERS)
    found = list(_found())
    tickets = [one for one in found if isinstance(one, TicketLine)]
    tickets.sort(key=lambda line: line.name)
    tickets.sort(key=lambda line: _rank(line, sort))
    return Listing(tickets, [one for one in found if isinstance(one, DamagedTicket)])


def known_tickets() -> list[TicketLine]:
    """Return the undamaged tickets of `list_tickets`, by kind and name.

    Example:
        >>> tamtctl.known_tickets()[0].name
        'nano-0.5'
    """
    return [one for one in _found() if isinstance(one, TicketLine)]


def _rank(line: TicketLine, order: str) -> Any:
    if order == "loss":
        has_none = line.loss is None
        return has_none, line.base_model, line.unit or "", line.loss or 0.0
    ranks = {"date": -line.time.timestamp(), "sparsity": line.sparsity, "size": -line.bytes}
    return ranks.get(order, 0)


def _found() -> Iterator[TicketLine | DamagedTicket]:
    for name, (folder, kind) in _places().items():
        try:
            metadata = TicketReader(folder).read_at_a_glance()
            yield _line(name, folder, kind, metadata)
        except TicketError as error:
            yield DamagedTicket(name, folder, str(error.__cause__ or error))
        except OSError as error:
            yield DamagedTicket(name, folder, reason(error))


def _places() -> dict[str, tuple[Path, Kind]]:
    places: dict[str, tuple[Path, Kind]] = {}
    for name, folder in packaged_tickets().items():
        places[name] = folder, "packaged"
    for folder in sorted(RUNS.glob(f"*/{TICKET}")):
        if folder.is_dir():
            places[str(folder)] = folder, "run"
    for name, folder in pulled_tickets().items():
        places[name] = folder, "hub"
    return places


def _line(name: str, folder: Path, kind: Kind, metadata: TicketMetadata) -> TicketLine:
    measured = Measured.of(metadata)
    return TicketLine(
        name=name,
        path=folder,
        sparsity=metadata.sparsity,
        method=metadata.method,
        objective=metadata.objective,
        base_model=metadata.base_model.id,
        bytes=folder_size(folder),
        kind=kind,
        created=metadata.created,
        loss=measured.losses.get("ticket"),
        unit=measured.unit,
        sparsities=metadata.sparsities,
        pattern=metadata.pattern if metadata.is_of_a_pattern else None,
    )
