"""Criteria without training, each at the better of two allocations, so that none is a straw man.

The other tables of a sweep have one allocation, so that masks differ only in which weights they
keep. A criterion can be far better with another one: here each has both, uniform and not, and the
better one is chosen on a part of the training text, which no table reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamtctl.comparison.found import Found, Table
from tamtctl.comparison.intervals import loss_difference
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import heading, words
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import Subnetwork, loss_over_seeds
from tamtctl.foundations.estimates import Interval, number_or_none, thousandths
from tamtctl.pruning.objectives import terms_of

_PREFACE = (
    "In the table of two allocations, uniform means the same sparsity in every matrix; the other "
    "has the same sparsity in all of the model, and shares it out as it says. Which of the two is "
    "better was chosen on {count} sequences of the training text."
)


@dataclass(frozen=True)
class TwoAllocations:
    """A criterion with either allocation.

    Attributes:
        own: The mask with the allocation of the sweep.
        other: The mask with the other allocation.
        measure: The loss that they are compared in.
        choosing: The losses of ``own`` and ``other`` on the text that the choice is made on.
        difference: The held-out loss of ``other`` minus that of ``own``.
    """

    own: Subnetwork
    other: Subnetwork
    measure: str
    choosing: tuple[float, float]
    difference: Interval

    @property
    def is_other_chosen(self) -> bool:
        """Whether ``other`` has the lower loss on the text that the choice is made on."""
        return self.choosing[1] < self.choosing[0]

    @property
    def chosen(self) -> Subnetwork:
        """The mask with the chosen allocation."""
        return self.other if self.is_other_chosen else self.own

    @property
    def loss(self) -> float:
        """The held-out loss with the chosen allocation."""
        return self.chosen.losses[self.measure].mean

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        budgets = {
            one.among or "uniform": {
                "loss": number_or_none(one.losses[self.measure].mean),
                "loss_on_training_text": number_or_none(choosing),
                "sparsities": dict(one.split),
            }
            for one, choosing in zip((self.own, self.other), self.choosing, strict=True)
        }
        return {
            "method": self.own.method,
            "sparsity": self.own.sparsity,
            "measure": self.measure,
            "budgets": budgets,
            "better": self.chosen.among or "uniform",
            "difference": self.difference.to_dict(),
        }


@dataclass(frozen=True)
class BetterAllocations(Found):
    """The criteria of a sweep with either allocation.

    Attributes:
        criteria: In the order of the sweep.
        best_trained: Sparsity → label and mean loss over seeds of the best method that trains.
        count: Number of sequences that the choice was made on.
    """

    criteria: Sequence[TwoAllocations]
    best_trained: Mapping[float, tuple[str, float]]
    count: int

    def preface(self) -> list[str]:
        """Return what the two allocations are, and what the choice was made on."""
        return [_PREFACE.format(count=self.count)]

    def sentences(self) -> list[str]:
        """Return the best criterion of each sparsity beside the best trained mask."""
        return list(self._sentences())

    def table(self) -> Table:
        """Return each criterion's loss with either allocation, and which was chosen."""
        first = self.criteria[0]
        names = [one.among or "uniform" for one in (first.own, first.other)]
        parts = list(
            dict.fromkeys(p for c in self.criteria for p in (*c.own.split, *c.other.split))
        )
        rows = []
        for one in self.criteria:
            row = [f"{one.own.sparsity:g}", one.own.label, one.chosen.among or "uniform"]
            row += [thousandths(o.losses[one.measure].mean) for o in (one.own, one.other)]
            row += [f"{one.difference.value:+.3f}", one.difference.brackets]
            split = one.other.split or one.own.split
            row += [f"{split[part]:.3f}" if part in split else "–" for part in parts]
            rows.append(row)
        columns = ["sparsity", "criterion", "better allocation"]
        columns += [f"{heading(first.measure)}, {name}" for name in names]
        columns += ["difference", "95 % interval"]
        columns += [f"sparsity of {part}, not uniform" for part in parts]
        return Table(columns, rows, words=3)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"two_budgets": [one.to_dict() for one in self.criteria]}

    def _sentences(self) -> Iterator[str]:
        for sparsity in dict.fromkeys(one.own.sparsity for one in self.criteria):
            best = min(
                (one for one in self.criteria if one.own.sparsity == sparsity),
                key=lambda one: one.loss,
            )
            allocation = best.chosen.among or "the same sparsity in every matrix"
            where = ", ".join(f"{part} {share:.2f}" for part, share in best.chosen.split.items())
            split = f" ({where})" if where else ""
            loss = terms_of(best.measure).written(thousandths(best.loss))
            told = (
                f"at {sparsity:g}, of the criteria with the better of two allocations "
                f"{best.own.label} has the lowest {words(best.measure)}, {loss}, with "
                f"{allocation}{split}"
            )
            if trained := self.best_trained.get(sparsity):
                method, its = trained
                among = best.own.among or "the same sparsity in every matrix"
                told += f"; {method} has {thousandths(its)} with {among}"
            yield told


def find(comparison: Comparison, opened: Opened) -> BetterAllocations | None:
    """Return the criteria with either allocation; None if only one was measured."""
    criteria = list(_criteria(comparison, opened))
    if not criteria:
        return None
    measure = criteria[0].measure
    best: dict[float, tuple[str, float]] = {}
    for group in comparison.groups.values():
        one = group[0]
        if one.masks and not one.is_one_shot:
            found = (one.label, loss_over_seeds(group, measure).mean)
            best[one.sparsity] = min(best.get(one.sparsity, found), found, key=lambda pair: pair[1])
    return BetterAllocations(criteria, best, len(opened.bench.choosing_text.cut.sequences))


def _criteria(comparison: Comparison, opened: Opened) -> Iterator[TwoAllocations]:
    for other in comparison.beside:
        (measure,) = other.losses
        level = Level(other.sparsity, opened.config.among)
        for own in comparison.groups.get((other.method, level), []):
            losses = [
                opened.bench.choosing_loss(one.masks.unpacked(), measure).mean
                for one in (own, other)
                if one.masks
            ]
            difference = loss_difference([other.losses[measure]], [own.losses[measure]])
            yield TwoAllocations(own, other, measure, (losses[0], losses[1]), difference)
