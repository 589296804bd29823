"""Inspecting tickets: what one holds, whether it is intact, and how alike several are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.checks import sequence
from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.folders import folder_size
from tamtctl.foundations.shown import Shown
from tamtctl.models.files import CONFIG_FILE
from tamtctl.ticket.base_model import with_masks
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.flips import Flips, SharedFlips, flips_of, shared_flips
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.format.reader import Check
from tamtctl.ticket.mask_shares import sparsities
from tamtctl.ticket.matrix_places import layer_of, type_of
from tamtctl.ticket.measured import Measured
from tamtctl.ticket.similarity import Similarity, similarities
from tamtctl.ticket.ticket import Ticket


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """The result of inspecting one ticket folder.

    Attributes:
        path: The folder.
        kind: The kind of its name: ``path``, ``packaged`` or ``hub``.
        checks: The checks that were made.
        ticket: The ticket; None if it is not valid.
        flips: The flips of its masks; None if it is not valid.
        bytes: Size of its files.
    """

    path: Path
    kind: str
    checks: list[Check]
    ticket: Ticket | None
    flips: Flips | None
    bytes: int

    @property
    def is_valid(self) -> bool:
        """Whether the ticket is valid: no check failed."""
        return self.ticket is not None

    @property
    def problem(self) -> str:
        """What is wrong with an invalid ticket, in one line."""
        return next(check.detail for check in self.checks if check.passed is False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        ticket = self.ticket
        return {
            "path": str(self.path),
            "kind": self.kind,
            "valid": self.is_valid,
            "bytes": self.bytes,
            "checks": [asdict(check) for check in self.checks],
            "ticket": ticket and ticket.describe(),
            "measured": ticket and Measured.of(ticket).to_dict(),
            "layers": sparsities(ticket, layer_of) if ticket else None,
            "types": sparsities(ticket, type_of) if ticket else None,
            "flips": self.flips and self.flips.to_dict(),
        }


def inspect_ticket(name: str, *, token: str | None = None) -> Inspection:
    """Inspect a ticket; a damaged one is described, not refused.

    Args:
        name: Folder, packaged name or Hub id.
        token: For a private ticket on the Hub.

    Raises:
        TicketError: There is no such ticket.

    Example:
        >>> inspection = tamtctl.inspect_ticket("nano-0.8")
        >>> inspection.is_valid, round(inspection.ticket.sparsity, 2)
        (True, 0.8)
    """
    found = resolve_ticket(name, token=token)
    if not (found.path / METADATA_FILE).exists() and (found.path / CONFIG_FILE).exists():
        raise TicketError(f"{name!r} is a model, and no ticket; evaluate and bench take models")
    checks = Ticket.verify(found.path)
    is_valid = not any(check.passed is False for check in checks)
    ticket = Ticket.load(found.path) if is_valid else None
    flips = flips_of(ticket) if ticket else None
    return Inspection(found.path, found.kind, checks, ticket, flips, folder_size(found.path))


@dataclass(frozen=True, repr=False)
class TicketComparison(Shown):
    """Several tickets side by side.

    Attributes:
        names: The tickets as the user named them.
        inspections: The inspection of each; all are valid.
        similarities: The similarity of every two tickets.
        shared_flips: Indices of two tickets in ``names`` → how alike their flips are, for tickets
            whose flips are known.
    """

    names: list[str]
    inspections: list[Inspection]
    similarities: list[Similarity]
    shared_flips: Mapping[tuple[int, int], SharedFlips]

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets, in the encoding that they came in."""
        return [inspection.ticket for inspection in self.inspections if inspection.ticket]

    @property
    def flips(self) -> list[Flips]:
        """The flips of each ticket."""
        return [inspection.flips for inspection in self.inspections if inspection.flips]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "tickets": [one.to_dict() for one in self.inspections],
            "similarities": [
                one.to_dict()
                | {"a": self.names[one.a], "b": self.names[one.b]}
                | {"flips": (shared := self.shared_flips.get((one.a, one.b))) and asdict(shared)}
                for one in self.similarities
            ],
        }


def compare_masks(names: Sequence[str], *, token: str | None = None) -> TicketComparison:
    """Inspect several tickets and compare their masks.

    Args:
        names: Folder, packaged name or Hub id of each.
        token: For private tickets on the Hub.

    Raises:
        TicketError: A ticket is missing or not valid, or two of different models have no matrix in
            common.
        ModelError: A ticket is encoded as ``delta`` and its base model cannot be loaded.

    Example:
        >>> alike = tamtctl.compare_masks(["nano-0.7", "nano-0.8"]).similarities[0]
        >>> 0 < alike.average.jaccard < 1
        True
    """
    sequence("the tickets", names)
    inspections = [inspect_ticket(name, token=token) for name in names]
    tickets = []
    for name, inspection in zip(names, inspections, strict=True):
        if inspection.ticket is None:
            raise TicketError(f"ticket {name!r}: {inspection.problem}")
        tickets.append(with_masks(inspection.ticket))
    similar = similarities(tickets)
    return TicketComparison(list(names), inspections, similar, shared_flips(tickets))
