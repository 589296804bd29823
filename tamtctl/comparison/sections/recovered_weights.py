"""Recovered weights: what their rows mean, and from which ticket each was recovered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamtctl.comparison.found import Found
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.result import Comparison

_PREFACE = (
    "Recovered weights are what a ticket keeps, trained against the dense model (tamtctl recover). "
    "They are no mask, and stand at levels of their own: a better mask and better weights are "
    "two things. Only weights that were recovered in the same way are compared with each other."
)


@dataclass(frozen=True)
class RecoveredWeights(Found):
    """Which rows are recovered weights."""

    said: Sequence[str]

    def preface(self) -> Sequence[str]:
        """Return what rows of recovered weights mean."""
        return [_PREFACE]

    def sentences(self) -> Sequence[str]:
        """Return from which ticket each was recovered."""
        return self.said


def find(comparison: Comparison, opened: Opened) -> RecoveredWeights | None:
    """Return the sentences on recovered weights; None if there are none."""
    said = [
        f"{one.name} is no mask: it is the weights that {opened.recovered[one.method].ticket} "
        f"keeps, trained for {one.steps:,} steps, and is not ranked with masks"
        for one in comparison.subnetworks
        if one.is_recovered
    ]
    return RecoveredWeights(said) if said else None
