"""Masks that are identical under different names, and searches that changed nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tamtctl.comparison.found import Found
from tamtctl.comparison.levels import Level
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import Subnetwork


@dataclass(frozen=True)
class SameMasks(Found):
    """Sentences on masks that are no results of their own."""

    said: Sequence[str]

    def sentences(self) -> Sequence[str]:
        """Return the sentences."""
        return self.said


def find(comparison: Comparison, opened: Opened) -> SameMasks | None:
    """Return which masks are identical, and which searches changed nothing; None if none."""
    said = list(_sentences(comparison.subnetworks))
    return SameMasks(said) if said else None


def _sentences(subnetworks: Sequence[Subnetwork]) -> Iterator[str]:
    told: set[tuple[str, Level]] = set()
    for group in _by_mask(subnetworks).values():
        if len(group) > 1:
            names = [one.name for one in group]
            told.update((one.name, one.level) for one in group)
            kept = "the search changed nothing" if any(o.is_unchanged for o in group) else ""
            yield (
                f"{', '.join(names[:-1])} and {names[-1]} at {group[0].level} are one and the same "
                "mask" + (f": {kept}" if kept else "")
            )
    for one in subnetworks:
        if one.is_unchanged and (one.name, one.level) not in told:
            yield (
                f"{one.name} at {one.level} is the mask that its search started from: "
                "the search changed nothing"
            )


def _by_mask(subnetworks: Sequence[Subnetwork]) -> dict[bytes, list[Subnetwork]]:
    """Return digest of a mask → the subnetworks that have it."""
    found: dict[bytes, list[Subnetwork]] = {}
    for one in subnetworks:
        if one.masks:
            found.setdefault(one.masks.digest, []).append(one)
    return found
