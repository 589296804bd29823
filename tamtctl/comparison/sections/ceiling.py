"""Tickets that beat the dense model by learning the text, beside the dense model trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tamtctl.comparison.ceiling import below_dense
from tamtctl.comparison.found import Found
from tamtctl.comparison.intervals import loss_difference
from tamtctl.comparison.measures import term_of, words
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import CEILING, Ceiling, Subnetwork
from tamtctl.foundations.estimates import number_or_none, thousandths
from tamtctl.pruning.objectives import terms_of

_PREFACE = (
    f"“{CEILING}” is the dense model after as many steps of ordinary training as a ticket below it "
    "has had, on the batches of the first such ticket and with the same head. Of three rates, the "
    "one was taken that was best after a fifth of the steps, on a part of the training text that "
    "was left out of these."
)


@dataclass(frozen=True)
class BelowDense(Found):
    """Warnings about tickets whose loss is below the dense model's."""

    said: Sequence[str]
    ceilings: Sequence[Ceiling]

    def lead(self) -> list[str]:
        """Return the findings of `sentences` as whole sentences."""
        return [f"{line}." for line in self.said]

    def preface(self) -> list[str]:
        """Return what the ceiling is."""
        return [_PREFACE] if self.ceilings else []

    def sentences(self) -> Sequence[str]:
        """Return which masks have learnt the text, and how far the trained dense model is ahead."""
        return self.said

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; empty for given tickets, whose searches are not at hand."""
        if not self.ceilings:
            return {}
        return {
            "ceilings": [
                {
                    "measure": one.measure,
                    "steps": one.steps,
                    "learning_rate": one.rate,
                    "losses": {n: number_or_none(loss.mean) for n, loss in one.losses.items()},
                }
                for one in self.ceilings
            ]
        }


def find(comparison: Comparison, opened: Opened) -> BelowDense | None:
    """Return the trained masks that beat the dense model; None if there are none."""
    said = [
        _sentence(comparison, one, measure) for one, measure in below_dense(comparison.subnetworks)
    ]
    return BelowDense(said, comparison.ceilings) if said else None


def _sentence(comparison: Comparison, one: Subnetwork, measure: str) -> str:
    told = (
        f"{one.name} at {one.level} has a lower {words(measure)} than the dense model: its mask "
        "has learnt the text, and how much of the gap it closes says nothing of other text"
    )
    ceiling = next((c for c in comparison.ceilings if c.steps == one.steps), None)
    if ceiling is None:
        return told
    interval = loss_difference([one.losses[measure]], [ceiling.losses[measure]])
    written = terms_of(term_of(measure)).written(thousandths(abs(interval.value)))
    side = "above" if interval.value > 0 else "below"
    sure = f", 95 % interval {interval.brackets_of_size}" if interval.is_claimed else ""
    return (
        f"{told}; it is {written} {side} the {ceiling.label}, which has had as many steps of "
        f"ordinary training{sure}"
    )
