"""What a comparison found: losses and scores, differences and their intervals, similarities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tamtctl.similarity import similarities
from tamtctl.statistics import Interval, Spread
from tamtctl.subnetworks import Subnetwork
from tamtctl.sweep import CompareConfig

_UNITS = {"mlm": "nats", "kd": "(1 − cosine)"}
_WORDS = {"mlm": "MLM loss", "kd": "KD loss"}


@dataclass(frozen=True)
class Difference:
    """Two methods at one sparsity; ``interval`` is by how much ``a`` has more than ``b``.

    Attributes:
        a: One method, as a text names it.
        b: The other one.
        sparsity: Of both.
        measure: ``mlm`` or ``kd``, of which less is better, or a task, of which more is.
        interval: From a paired bootstrap over blocks of text, or over dev examples.
        is_headline: Whether it says how a method does at what it was trained for.
    """

    a: str
    b: str
    sparsity: float
    measure: str
    interval: Interval
    is_headline: bool

    def __str__(self) -> str:
        unit = f" {_UNITS[self.measure]}" if self.measure in _UNITS else ""
        where = f"at {self.sparsity:g} in {_WORDS.get(self.measure, self.measure)}"
        value, *bounds = self.interval.value, self.interval.low, self.interval.high
        if not self.interval.is_significant:
            low, high = (f"{bound + 0.0:.3f}" for bound in bounds)  # no minus before a zero
            return (
                f"{self.a} and {self.b} cannot be told apart {where}: a difference of "
                f"{value + 0.0:.3f}{unit}, 95 % interval [{low}, {high}]"
            )
        a_is_better = (value < 0) == (self.measure in _UNITS)  # a lower loss, a higher score
        better, worse = (self.a, self.b) if a_is_better else (self.b, self.a)
        low, high = (f"{bound:.3f}" for bound in sorted(map(abs, bounds)))
        return (
            f"{better} beats {worse} {where} by {abs(value):.3f}{unit}, "
            f"95 % interval [{low}, {high}]"
        )


@dataclass(frozen=True)
class Overlaps:
    """Jaccard similarities of the subnetworks of one sparsity (None: of all tickets).

    Attributes:
        sparsity: Of all of them.
        names: Of each.
        jaccard: The similarity of every two, 1 on the diagonal.
        chance: What two random masks would have, for every two.
    """

    sparsity: float | None
    names: list[str]
    jaccard: list[list[float]]
    chance: list[list[float]]

    @classmethod
    def of(cls, sparsity: float | None, subnetworks: Sequence[Subnetwork]) -> Overlaps:
        """Compare every two of several subnetworks."""
        names = [one.name if sparsity else f"{one.name} {one.sparsity:g}" for one in subnetworks]
        jaccard, chance = np.eye(len(names)), np.eye(len(names))
        for pair in similarities([one.ticket for one in subnetworks if one.ticket]):
            for i, j in ((pair.a, pair.b), (pair.b, pair.a)):
                jaccard[i, j] = pair.average.jaccard
                chance[i, j] = pair.average.chance_jaccard
        return cls(sparsity, names, jaccard.tolist(), chance.tolist())


@dataclass(frozen=True)
class StepsToEqual:
    """How many steps of mask training do what iterative magnitude pruning does.

    Attributes:
        method: The mask training.
        sparsity: Of both.
        seed: Of the mask training.
        term: The loss that it trains for.
        loss: That of iterative pruning, the mean over its seeds.
        imp_steps: What iterative pruning took.
        steps: The first of ``--at-steps`` at which the loss was no higher; None if at none.
    """

    method: str
    sparsity: float
    seed: int | None
    term: str
    loss: float
    imp_steps: int
    steps: int | None

    def __str__(self) -> str:
        at = f"{self.method} at {self.sparsity:g}, seed {self.seed}"
        imp = f"the {self.term.upper()} loss that IMP has after {self.imp_steps} ({self.loss:.3f})"
        if self.steps is None:
            return f"{at}: at none of the evaluated steps as good as {imp}"
        return f"{at}: {self.steps} steps reach {imp}"


@dataclass(frozen=True)
class Derived:
    """A ticket that was derived from the scores of a search at another sparsity.

    Attributes:
        method: Of the search.
        seed: Of the search.
        searched: The sparsity of the search.
        sparsity: Of the ticket.
        term: What the search trained for.
        loss: Of the derived ticket.
        cost: By how much its loss is above that of a search at its own sparsity.
    """

    method: str
    seed: int | None
    searched: float
    sparsity: float
    term: str
    loss: float
    cost: Interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found.

    Attributes:
        config: As asked for.
        model: What the masks are of.
        corpus: What the held-out text is of.
        blocks: Sequences of text that the losses were measured on.
        terms: The losses: ``mlm`` and ``kd``, or ``kd`` alone.
        subnetworks: The dense model first.
        differences: Every two methods at the same sparsity, but for two one-shot ones.
        overlaps: How alike the masks are.
        correlations: Task → term → correlation of the loss with the score over the subnetworks.
        derived: With ``keep_scores``, what every mask training gives at the other sparsities.
        steps_to_equal: With ``at_steps``, for every mask training beside iterative pruning.
        left_out: Cell → why it is missing: its run folder is damaged.
        folder: Of the report.
    """

    config: CompareConfig
    model: str
    corpus: str
    blocks: int
    terms: tuple[str, ...]
    subnetworks: list[Subnetwork]
    differences: list[Difference]
    overlaps: list[Overlaps]
    correlations: dict[str, dict[str, Interval | None]]
    derived: list[Derived]
    steps_to_equal: list[StepsToEqual]
    left_out: dict[str, str]
    folder: Path

    @property
    def groups(self) -> dict[tuple[str, float], list[Subnetwork]]:
        """Method and sparsity → the subnetworks that differ in their seed alone."""
        return groups_of(self.subnetworks)

    def spread(self, group: Sequence[Subnetwork], term: str) -> Spread:
        """Return a loss over the seeds of a group."""
        return Spread.of([one.losses[term].mean for one in group])

    def score(self, group: Sequence[Subnetwork], task: str) -> Spread:
        """Return a task's score over the seeds of a group and of its fine-tuning."""
        return Spread.of([run.score for one in group for run in one.scores[task].runs])

    @property
    def sentences(self) -> list[str]:
        """What there is to say, one comparison a line."""
        headlines = [one for one in self.differences if one.is_headline]
        return [*map(str, headlines), *map(str, self.steps_to_equal)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "config": self.config.to_dict(),
            "model": self.model,
            "corpus": self.corpus,
            "blocks": self.blocks,
            "results": [one.row() for one in self.subnetworks],
            "differences": [
                {
                    "a": one.a,
                    "b": one.b,
                    "sparsity": one.sparsity,
                    "measure": one.measure,
                    **one.interval.to_dict(),
                }
                for one in self.differences
            ],
            "sentences": self.sentences,
            "similarities": [
                {"sparsity": one.sparsity, "names": one.names, "jaccard": one.jaccard}
                | {"chance": one.chance}
                for one in self.overlaps
            ],
            "correlations": {
                task: {term: r and r.to_dict() for term, r in terms.items()}
                for task, terms in self.correlations.items()
            },
            "at_steps": [
                {"method": one.label, "sparsity": one.sparsity, "seed": one.seed, "step": step}
                | {f"{term}_loss": loss for term, loss in losses.items()}
                for one in self.subnetworks
                for step, losses in one.along.items()
            ],
            "derived": [asdict(one) for one in self.derived],
            "steps_to_equal": [asdict(one) for one in self.steps_to_equal],
            "left_out": self.left_out,
            "folder": str(self.folder),
        }


def groups_of(subnetworks: Sequence[Subnetwork]) -> dict[tuple[str, float], list[Subnetwork]]:
    """Return method and sparsity → the subnetworks that differ in their seed alone."""
    groups: dict[tuple[str, float], list[Subnetwork]] = {}
    for one in subnetworks:
        groups.setdefault((one.method, one.sparsity), []).append(one)
    return groups
