"""Looking at tickets: what is at hand, what one holds, and whether it is intact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamtctl.bases import with_masks
from tamtctl.console import Output, PlainTable, size
from tamtctl.errors import TicketError
from tamtctl.folders import folder_size
from tamtctl.hub_cache import pulled_tickets
from tamtctl.measured import Measured
from tamtctl.runs import RUNS, TICKET
from tamtctl.similarity import Share, Similarity, by_layer, by_type, similarities
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
        kind: How its name was found: ``path``, ``packaged`` or ``hub``.
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
        """Whether no check failed."""
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
            "measured": ticket and Measured.of(ticket).to_dict(),
            "layers": _sparsities(by_layer(ticket)) if ticket else None,
            "types": _sparsities(by_type(ticket)) if ticket else None,
        }


def inspect_ticket(name: str, *, token: str | None = None) -> Inspection:
    """Return what is known of a ticket; a damaged one is described, not refused.

    Raises:
        TicketError: There is no such ticket.
    """
    found = resolve_ticket(name, token=token)
    checks = Ticket.verify(found.path)
    is_valid = not any(check.passed is False for check in checks)
    ticket = Ticket.load(found.path) if is_valid else None
    return Inspection(found.path, found.kind, checks, ticket, folder_size(found.path))


@dataclass(frozen=True)
class TicketComparison:
    """Several tickets side by side.

    Attributes:
        names: As they were asked for.
        inspections: What is known of each; all are valid.
        similarities: Of every two of them.
    """

    names: list[str]
    inspections: list[Inspection]
    similarities: list[Similarity]

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets, in the encoding that they came in."""
        return [inspection.ticket for inspection in self.inspections if inspection.ticket]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "tickets": [one.to_dict() for one in self.inspections],
            "similarities": [
                one.to_dict() | {"a": self.names[one.a], "b": self.names[one.b]}
                for one in self.similarities
            ],
        }


def compare_masks(names: Sequence[str], *, token: str | None = None) -> TicketComparison:
    """Inspect several tickets and compare their masks.

    Raises:
        TicketError: One is missing or not valid, or two have no matrix in common.
        ModelError: A ticket is encoded as ``delta`` and its base model cannot be loaded.
    """
    inspections = [inspect_ticket(name, token=token) for name in names]
    tickets = []
    for name, inspection in zip(names, inspections, strict=True):
        if inspection.ticket is None:
            raise TicketError(f"ticket {name!r}: {inspection.problem}")
        tickets.append(with_masks(inspection.ticket))
    return TicketComparison(list(names), inspections, similarities(tickets))


def known_tickets() -> list[TicketLine]:
    """Return the packaged tickets, those of the runs below the working directory, those pulled.

    Only their metadata is read; a folder whose metadata are broken is left out (`inspect_ticket`
    says what is wrong with it).
    """
    return list(_lines())


def _lines() -> Iterator[TicketLine]:
    places = dict(packaged_tickets())
    for file in sorted(RUNS.glob(f"*/{TICKET}/{METADATA_FILE}")):
        places[str(file.parent)] = file.parent
    places |= pulled_tickets()
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
        output.table(_group_table("layer", [""], [by_layer(ticket)]))
        output.table(_group_table("type of matrix", [""], [by_type(ticket)]))
    for check in inspection.checks:
        mark = {True: "ok", False: "FAILED", None: "-"}[check.passed]
        output.line(f"{mark:<7} {check.name}: {check.detail}")


def show_comparison(output: Output, comparison: TicketComparison) -> None:
    """Print several tickets side by side."""
    columns = [str(number) for number in range(1, len(comparison.names) + 1)]
    for column, name, one in zip(columns, comparison.names, comparison.inspections, strict=True):
        if ticket := one.ticket:
            output.line(
                f"{column}  {name} ({one.kind}): {ticket.method} of {ticket.base_model.id}, "
                f"sparsity {ticket.sparsity:.4f}"
            )
    tickets = comparison.tickets
    output.table(_similarity_table(comparison.similarities))
    if not all(one.same_base for one in comparison.similarities):
        output.line("Not all are masks of the same weights.")
    output.table(_group_table("layer", columns, [by_layer(t) for t in tickets]))
    output.table(_group_table("type of matrix", columns, [by_type(t) for t in tickets]))


def _similarity_table(similar: Sequence[Similarity]) -> PlainTable:
    table = PlainTable("tickets", title="Similarity, average over matrices")
    for column in ("Jaccard", "by chance", "Hamming", "by chance"):
        table.add_column(column, justify="right")
    for one in similar:
        o = one.average
        values = (o.jaccard, o.chance_jaccard, o.hamming, o.chance_hamming)
        table.add_row(f"{one.a + 1} and {one.b + 1}", *(f"{value:.4f}" for value in values))
    return table


def _group_table(
    title: str, columns: Sequence[str], groups: Sequence[dict[str, Share]]
) -> PlainTable:
    table = PlainTable(title)
    for column in columns:
        table.add_column(f"sparsity {column}".strip(), justify="right")
    for group in dict.fromkeys(name for shares in groups for name in shares):
        found = (shares.get(group) for shares in groups)
        table.add_row(group, *(f"{s.sparsity:.4f}" if s else "-" for s in found))
    return table


def _sparsities(groups: dict[str, Share]) -> dict[str, float]:
    return {group: share.sparsity for group, share in groups.items()}


def _facts(ticket: TicketMetadata) -> dict[str, str]:
    base = ticket.base_model
    revision = f" at {base.revision}" if base.revision else ""
    return {
        "base model": f"{base.id}{revision} ({base.model_type})",
        "fingerprint": base.fingerprint,
        "sparsity": f"{ticket.sparsity:.6f} (target {ticket.target_sparsity:g}), "
        f"{ticket.kept:,} of {ticket.total:,} weights kept",
        "method": ticket.method + (f", objective {ticket.objective}" if ticket.objective else ""),
        **_measured(ticket),
        "encoding": ticket.encoding,
        "created": f"{ticket.created} by tamtctl {ticket.tamtctl_version}",
    }


def _measured(ticket: TicketMetadata) -> dict[str, str]:
    """Return what was measured of a ticket, with its unit and its text."""
    measured = Measured.of(ticket)

    def losses(of: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {loss:.3f}" for name, loss in of.items())

    unit = f", {measured.unit}" if measured.unit else ""
    facts = {"held-out": losses(measured.losses) + unit if measured.losses else "-"}
    if "ticket" in measured.standard_errors:
        facts["held-out"] += f"; ± {measured.standard_errors['ticket']:.3f} s.e. of the ticket's"
    if measured.text:
        facts["measured on"] = measured.text
    if measured.check_losses:
        facts["check corpus"] = losses(measured.check_losses) + unit
        if measured.check_text:
            facts["check corpus"] += f", {measured.check_text}"
    if measured.changed is False:
        facts["training"] = "did not change the mask: it is the one that the search began with"
    elif measured.steps and measured.flips is not None:
        facts["training"] = f"{measured.steps:,} steps, {measured.flips:.1%} of the mask flipped"
    for task, found in measured.scores.items():
        facts[f"{task} scores"] = ", ".join(f"{name} {v:.4f}" for name, v in found.items())
    return facts


def _matrix_table(ticket: TicketMetadata) -> PlainTable:
    table = PlainTable("matrix")
    for column in ("shape", "kept", "sparsity"):
        table.add_column(column, justify="right")
    for name, entry in ticket.parameters.items():
        shape = " × ".join(map(str, entry.shape))
        table.add_row(name, shape, f"{entry.kept:,}", f"{1 - entry.kept / entry.numel:.4f}")
    return table


def show_tickets(output: Output, tickets: list[TicketLine]) -> None:
    """Print a listing."""
    table = PlainTable("ticket", "base model", "method", "objective")
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
