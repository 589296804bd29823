"""Looking at tickets: what is at hand, what one holds, and whether it is intact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from tamtctl.console import Output, size
from tamtctl.errors import TicketError
from tamtctl.runs import RUNS, TICKET
from tamtctl.ticket import Ticket, packaged_tickets, resolve_ticket
from tamtctl.ticket_format import METADATA_FILE, Check, TicketMetadata, TicketReader


@dataclass(frozen=True)
class TicketLine:
    """One ticket of a listing; ``bytes`` is the size of its folder."""

    name: str
    path: Path
    sparsity: float
    method: str
    objective: str | None
    base_model: str
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"path": str(self.path)}


@dataclass(frozen=True)
class Inspection:
    """What is known of one ticket folder.

    Attributes:
        path: Its folder.
        kind: How its name was found: ``path`` or ``packaged``.
        checks: What verifying it found.
        ticket: None if it is not valid.
        bytes: Size of its files.
    """

    path: Path
    kind: str
    checks: list[Check]
    ticket: Ticket | None
    bytes: int

    @property
    def is_valid(self) -> bool:
        """Whether every check passed."""
        return self.ticket is not None

    @property
    def problem(self) -> str:
        """What is wrong with an invalid ticket."""
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
        }


def inspect_ticket(name: str) -> Inspection:
    """Return what is known of a ticket; a damaged one is described, not refused.

    Raises:
        TicketError: There is no such ticket.
    """
    found = resolve_ticket(name)
    checks = Ticket.verify(found.path)
    ticket = Ticket.load(found.path) if all(check.passed for check in checks) else None
    return Inspection(found.path, found.kind, checks, ticket, folder_size(found.path))


def known_tickets() -> list[TicketLine]:
    """Return the packaged tickets, then those of the runs below the working directory.

    Only their metadata is read; a folder whose metadata are broken is left out (`inspect_ticket`
    says what is wrong with it).
    """
    return list(_lines())


def folder_size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _lines() -> Iterator[TicketLine]:
    places = dict(packaged_tickets())
    for file in sorted(RUNS.glob(f"*/{TICKET}/{METADATA_FILE}")):
        places[str(file.parent)] = file.parent
    for name, folder in places.items():
        try:
            metadata = TicketReader(folder).read_metadata()
        except TicketError:
            continue
        yield TicketLine(
            name,
            folder,
            metadata.sparsity,
            metadata.method,
            metadata.objective,
            metadata.base_model.id,
            folder_size(folder),
        )


def show_inspection(output: Output, inspection: Inspection) -> None:
    """Print a ticket's metadata, its matrices, and what verifying it found."""
    facts = {"ticket": f"{inspection.path} ({inspection.kind}, {size(inspection.bytes)})"}
    if ticket := inspection.ticket:
        facts |= _facts(ticket)
    output.facts(facts)
    if ticket:
        output.table(_matrix_table(ticket))
    for check in inspection.checks:
        mark = {True: "ok", False: "FAILED", None: "-"}[check.passed]
        output.line(f"{mark:<7} {check.name}: {check.detail}")


def _facts(ticket: TicketMetadata) -> dict[str, str]:
    base = ticket.base_model
    revision = f" at {base.revision}" if base.revision else ""
    losses = ticket.metrics.get("losses", {})
    return {
        "base model": f"{base.id}{revision} ({base.model_type})",
        "fingerprint": base.fingerprint,
        "sparsity": f"{ticket.sparsity:.6f} (target {ticket.target_sparsity:g}), "
        f"{ticket.kept:,} of {ticket.total:,} weights kept",
        "method": ticket.method + (f", objective {ticket.objective}" if ticket.objective else ""),
        "held-out": ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()) or "-",
        "encoding": ticket.encoding,
        "created": f"{ticket.created} by tamtctl {ticket.tamtctl_version}",
    }


def _matrix_table(ticket: TicketMetadata) -> Table:
    table = Table("matrix")
    for column in ("shape", "kept", "sparsity"):
        table.add_column(column, justify="right")
    for name, entry in ticket.parameters.items():
        shape = " × ".join(map(str, entry.shape))
        table.add_row(name, shape, f"{entry.kept:,}", f"{1 - entry.kept / entry.numel:.4f}")
    return table


def show_tickets(output: Output, tickets: list[TicketLine]) -> None:
    """Print a listing."""
    table = Table("ticket", "base model", "method", "objective")
    table.add_column("sparsity", justify="right")
    table.add_column("size", justify="right")
    for ticket in tickets:
        method = [ticket.method, ticket.objective or "-"]
        table.add_row(
            ticket.name,
            ticket.base_model,
            *method,
            f"{ticket.sparsity:.4g}",
            size(ticket.bytes),
        )
    output.table(table)
