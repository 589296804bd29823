"""How much a ticket prunes of each part of an encoder: layers and types of matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tamtctl.ticket.flips import Flips
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.matrix_places import grouped, place_of, shares_by, type_of

OUTSIDE, EMBEDDINGS = "outside", "embeddings"  # labels of parts outside the layers


@dataclass(frozen=True)
class Uniform:
    """The sparsity that most matrices of a ticket have, to within one weight.

    Attributes:
        sparsity: The common sparsity.
        exceptions: Name → sparsity of the other matrices.
    """

    sparsity: float
    exceptions: Mapping[str, float]

    @classmethod
    def of(cls, ticket: TicketMetadata) -> Uniform | None:
        """Return the common sparsity; None if fewer than half of the matrices have the same."""
        entries = ticket.parameters
        own = {name: 1 - entry.kept / entry.numel for name, entry in entries.items()}
        values = list(own.values())
        common = max(dict.fromkeys(values), key=values.count)
        for sparsity in (ticket.target_sparsity, common):
            others = {
                name: own[name]
                for name, entry in entries.items()
                if abs(entry.kept - entry.numel * (1 - sparsity)) > 1
            }
            if 2 * len(others) <= len(entries):
                return cls(sparsity, others)
        return None


def sparsities(ticket: TicketMetadata, key: Callable[[str], str]) -> dict[str, float]:
    """Return layer or type of matrix → share of zeros; see `shares_by`."""
    sizes = {name: entry.numel for name, entry in ticket.parameters.items()}
    zeros = {name: entry.numel - entry.kept for name, entry in ticket.parameters.items()}
    return shares_by(key, zeros, sizes)


@dataclass(frozen=True)
class Part:
    """A part of the encoder.

    Attributes:
        label: Its label in tables.
        names: Names of its matrices.
    """

    label: str
    names: tuple[str, ...]

    def sparsity(self, ticket: TicketMetadata) -> float | None:
        """Return the share of zeros; None if the ticket masks nothing of it."""
        entries = [ticket.parameters[name] for name in self.names if name in ticket.parameters]
        total = sum(entry.numel for entry in entries)
        return 1 - sum(entry.kept for entry in entries) / total if total else None

    def flipped(self, flips: Flips) -> float | None:
        """Return the share of flips; None if it is not known."""
        known = [name for name in self.names if name in flips.counts]
        total = sum(flips.sizes[name] for name in known)
        return sum(flips.counts[name] for name in known) / total if total else None


def layers(names: Sequence[str], at_most: int) -> list[Part]:
    """Return what is outside the layers as a part, then the layers in ``at_most`` parts."""
    found = grouped(names, lambda name: place_of(name).layer)
    parts = []
    if outside := found.pop(None, []):
        is_embedding = all("embed" in name for name in outside)
        parts.append(Part(EMBEDDINGS if is_embedding else OUTSIDE, tuple(outside)))
    numbers = sorted(number for number in found if number is not None)
    step = -(-len(numbers) // at_most) if numbers else 1
    for start in range(0, len(numbers), step):
        some = numbers[start : start + step]
        label = f"layer {some[0]}" if len(some) == 1 else f"layers {some[0]}–{some[-1]}"
        parts.append(Part(label, tuple(name for number in some for name in found[number])))
    return parts


def types(names: Sequence[str]) -> list[Part]:
    """Return a part for each type of matrix."""
    return [Part(kind, tuple(found)) for kind, found in grouped(names, type_of).items()]
