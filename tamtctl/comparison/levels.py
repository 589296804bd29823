"""What makes subnetworks comparable: as many weights kept, in the same matrices, by one pattern.

The masks of one sparsity of a sweep are comparable by construction. Tickets may mask the linear
layers alone, or have another sparsity in each matrix. Those that keep as many weights in the same
matrices are of one level, and their baselines are masks with the same counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tamtctl.foundations.masks import keep_count
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.format.patterns import UNSTRUCTURED

ROUNDED = 0.0005  # of sparsity: what patterns may miss by keeping whole structures
_ROUNDING = 1  # weights a matrix: some programs round n · sparsity up, others down


class Level(NamedTuple):
    """A sparsity, and how it is spread if not evenly; subnetworks of one level are compared."""

    sparsity: float
    among: str = ""

    def __str__(self) -> str:
        return f"{self.sparsity:g}" + (f" ({self.among})" if self.among else "")


@dataclass(frozen=True)
class TicketLevel:
    """The level of some tickets.

    Attributes:
        level: As tables name it.
        counts: Name → how many weights a mask of this level keeps, without the dense matrices.
        pattern: The sparsity pattern of its masks.
    """

    level: Level
    counts: Mapping[str, int]
    pattern: str = UNSTRUCTURED

    def holds(self, counts: Mapping[str, int], pattern: str) -> bool:
        """Return whether masks with these counts are of this level, up to rounding."""
        is_same = pattern == self.pattern and counts.keys() == self.counts.keys()
        return is_same and _are_close(counts, self.counts)


def levels_of(
    tickets: Mapping[str, TicketMetadata], sizes: Mapping[str, int]
) -> dict[str, TicketLevel]:
    """Return the level of every ticket; the order of the tickets does not matter.

    Args:
        tickets: Label in tables → the ticket.
        sizes: Name → number of weights of every maskable matrix that counts here.
    """
    levels: list[TicketLevel] = []
    found: dict[str, TicketLevel] = {}
    described = {label: _described(ticket, sizes) for label, ticket in tickets.items()}
    # Round numbers come first, so that a level of 0.7 and 0.69998 is called 0.7.
    for label in sorted(described, key=lambda label: (len(repr(described[label][1])), label)):
        counts, sparsity, is_uniform = described[label]
        pattern = tickets[label].pattern
        level = next((one for one in levels if one.holds(counts, pattern)), None)
        if level is None:
            among, nominal = pattern, counts
            if pattern == UNSTRUCTURED:
                among = _among(label, counts, sizes, is_uniform=is_uniform)
                nominal = _uniform(sizes, counts, sparsity) if is_uniform else counts
            elif any(one.level == Level(sparsity, among) for one in levels):
                among = f"{pattern}, as in {label}"
            level = TicketLevel(Level(sparsity, among), nominal, pattern)
            levels.append(level)
        found[label] = level
    return {label: found[label] for label in tickets}


def notes_on_levels(levels: Mapping[str, TicketLevel]) -> list[str]:
    """Return a note for each two tickets of about the same sparsity that are not compared."""
    notes = []
    for (one, first), (other, second) in itertools.combinations(levels.items(), 2):
        a, b = first.level, second.level
        if a == b or f"{a.sparsity:.2f}" != f"{b.sparsity:.2f}":
            continue
        is_same = first.counts.keys() == second.counts.keys()
        if first.pattern != second.pattern:
            notes.append(
                f"{one} is {first.pattern} and {other} {second.pattern}: they are not ranked with "
                "each other, only by size and speed"
            )
            continue
        why = "keep as many weights in each matrix" if is_same else "mask the same matrices"
        notes.append(f"{one} and {other} are not compared with each other: they do not {why}")
    return notes


def _described(
    ticket: TicketMetadata, sizes: Mapping[str, int]
) -> tuple[dict[str, int], float, bool]:
    """Return a ticket's counts, its sparsity, and whether that is the same in every matrix."""
    counts = {n: entry.kept for n, entry in ticket.parameters.items() if n in sizes}
    total = sum(sizes[name] for name in counts)
    measured = 1 - sum(counts.values()) / total if total else 0.0
    if ticket.is_of_a_pattern:  # its sparsity is a share of structures
        is_rounded = abs(ticket.target_sparsity - measured) < ROUNDED
        return counts, ticket.target_sparsity if is_rounded else round(measured, 4), False
    # The target sparsity that a ticket states is used only if its counts agree.
    said = [ticket.target_sparsity] if ticket.allocation == "uniform" else []
    for aimed in (*said, *(round(measured, digits) for digits in (1, 2, 3))):
        if 0 <= aimed < 1 and _are_close(counts, _uniform(sizes, counts, aimed)):
            return counts, aimed, True
    return counts, round(measured, 4), False


def _uniform(
    sizes: Mapping[str, int], counts: Mapping[str, int], sparsity: float
) -> dict[str, int]:
    return {name: keep_count(sizes[name], sparsity) for name in counts}


def _are_close(counts: Mapping[str, int], others: Mapping[str, int]) -> bool:
    return all(abs(count - others[name]) <= _ROUNDING for name, count in counts.items())


def _among(
    label: str, counts: Mapping[str, int], sizes: Mapping[str, int], *, is_uniform: bool
) -> str:
    matrices = f"{len(counts)} of {len(sizes)} matrices"
    if is_uniform:
        return "" if counts.keys() == sizes.keys() else f"{matrices}, those of {label}"
    if counts.keys() == sizes.keys():
        return f"as spread in {label}"
    return f"{matrices}, as spread in {label}"
