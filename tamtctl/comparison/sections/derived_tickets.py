"""Tickets derived from the scores of one search, beside those of searches at their sparsity."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tamtctl.comparison.found import Found, Table
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.intervals import loss_difference
from tamtctl.comparison.measures import words
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.result import Comparison
from tamtctl.foundations.estimates import Interval
from tamtctl.pruning.methods import TAMT
from tamtctl.pruning.trained.kept_scores import masks_from_scores


@dataclass(frozen=True)
class Derived:
    """A ticket that was derived from the scores of a search at another sparsity.

    Attributes:
        method: The method of the search.
        seed: The seed of the search.
        searched: The sparsity of the search.
        sparsity: The sparsity of the ticket.
        term: The objective of the search.
        loss: The loss of the derived ticket.
        cost: Its loss minus that of the ticket of a search at this very sparsity.
    """

    method: str
    seed: int | None
    searched: float
    sparsity: float
    term: str
    loss: float
    cost: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"cost": self.cost.to_dict()}


@dataclass(frozen=True)
class DerivedTickets(Found):
    """With ``--keep-scores``, the tickets of every mask training at the other sparsities."""

    derived: Sequence[Derived]

    def table(self) -> Table | None:
        """Return the losses and costs of the derived tickets."""
        if not self.derived:
            return None
        heading = "method,seed,loss,searched at,ticket at,its loss,cost,95 % interval".split(",")
        rows = []
        for one in self.derived:
            cost, seed = one.cost, "–" if one.seed is None else str(one.seed)
            row = [one.method, seed, words(one.term), f"{one.searched:g}", f"{one.sparsity:g}"]
            row += [f"{one.loss:.3f}", f"{cost.value:+.3f}", cost.brackets]
            rows.append(row)
        return Table(heading, rows, words=3)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"derived": [one.to_dict() for one in self.derived]}


def find(comparison: Comparison, opened: Opened) -> DerivedTickets:
    """Return the tickets that the kept scores give, each with its cost."""
    return DerivedTickets(list(_derived(comparison, opened)))


def _derived(comparison: Comparison, opened: Opened) -> Iterator[Derived]:
    if not opened.config.keep_scores:
        return
    bench = opened.bench
    trained = [one for one in comparison.subnetworks if one.found_by == TAMT]
    for one, own in itertools.permutations(trained, 2):
        if (one.method, one.seed) != (own.method, own.seed) or not (one.path and own.masks):
            continue
        keep = own.masks.kept
        weights = {name: bench.weights[name] for name in bench.text.frozen if name in keep}
        search = opened.config.search_config(Cell(one.method, own.sparsity, one.seed))
        masks = masks_from_scores(
            one.path.parent, weights, keep, bench.pattern,
            words=bench.text.encoder.embeddings, word_floor=search.word_floor,
        )  # fmt: skip
        terms = (one.objective or "").split("+")
        losses = bench.losses(masks, terms)
        for term in terms:
            cost = loss_difference([losses[term]], [own.losses[term]])
            yield Derived(
                one.label, one.seed, one.sparsity, own.sparsity, term, losses[term].mean, cost
            )
