"""What a comparison found: losses and scores, differences and their intervals, similarities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.intervals import (
    Interval,
    RankCorrelation,
    Spread,
    number_or_none,
    thousandths,
)
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import is_loss, lower_is_better, unit, words
from tamtctl.comparison.subnetworks import Subnetwork
from tamtctl.foundations.shown import Shown
from tamtctl.ticket.similarity import similarities

Groups = dict[tuple[str, Level], list[Subnetwork]]  # the subnetworks that differ in their seed


@dataclass(frozen=True)
class Difference:
    """Two methods at one level; ``interval`` is by how much ``a`` has more than ``b``.

    Attributes:
        a: One method, as a text names it.
        b: The other one.
        level: Of both.
        measure: A loss or a task; its row says whether less of it is better.
        interval: From a paired bootstrap over blocks of text, or over dev examples.
        is_headline: Whether it says how a method does at what it was trained for.
        are_identical: Whether the masks are one and the same, so that there is nothing to tell.
    """

    a: str
    b: str
    level: Level
    measure: str
    interval: Interval
    is_headline: bool
    are_identical: bool = False

    @property
    def is_claimed(self) -> bool:
        """Whether one of the two can be said to be better."""
        is_seen = abs(self.interval.value) >= 0.0005  # what a text shows as 0.000 is no win
        return self.interval.is_significant and is_seen and not self.are_identical

    def __str__(self) -> str:
        if self.are_identical:
            return f"{self.a} and {self.b} at {self.level} are identical masks"
        of = f" {unit(self.measure)}" if is_loss(self.measure) else ""
        where = f"at {self.level} in {words(self.measure)}"
        value, low, high = self.interval.value, self.interval.low, self.interval.high
        if low is None or high is None:
            return f"{self.a} and {self.b} {where}: {self.interval.why_none}"
        if not self.is_claimed:
            return (
                f"{self.a} and {self.b} cannot be told apart {where}: a difference of "
                f"{thousandths(value)}{of}, 95 % interval {self.interval.brackets}"
            )
        a_is_better = (value < 0) == lower_is_better(self.measure)
        better, worse = (self.a, self.b) if a_is_better else (self.b, self.a)
        bounds = ", ".join(f"{bound:.3f}" for bound in sorted((abs(low), abs(high))))
        return f"{better} beats {worse} {where} by {abs(value):.3f}{of}, 95 % interval [{bounds}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "sparsity": self.level.sparsity,
            "among": self.level.among or None,
            "measure": self.measure,
            "identical": self.are_identical,
            **self.interval.to_dict(),
        }


@dataclass(frozen=True)
class Overlaps:
    """Jaccard similarities of the subnetworks of one sparsity (None: of all tickets).

    Attributes:
        sparsity: Of all of them.
        names: Of each.
        jaccard: The similarity of every two over the matrices that both mask, 1 on the diagonal;
            None where there is no such matrix.
        chance: What two random masks would have, for every two.
    """

    sparsity: float | None
    names: list[str]
    jaccard: list[list[float | None]]
    chance: list[list[float | None]]

    @classmethod
    def of(cls, sparsity: float | None, subnetworks: Sequence[Subnetwork]) -> Overlaps:
        """Compare every two of several subnetworks."""
        names = [one.name if sparsity else f"{one.name} {one.level}" for one in subnetworks]
        tickets = [one.ticket for one in subnetworks if one.ticket]
        jaccard: list[list[float | None]] = [[None] * len(names) for _ in names]
        chance: list[list[float | None]] = [[None] * len(names) for _ in names]
        for i, j in itertools.combinations_with_replacement(range(len(tickets)), 2):
            if tickets[i].parameters.keys().isdisjoint(tickets[j].parameters):
                continue
            (pair,) = similarities([tickets[i], tickets[j]])
            jaccard[i][j] = jaccard[j][i] = 1.0 if i == j else pair.average.jaccard
            chance[i][j] = chance[j][i] = 1.0 if i == j else pair.average.chance_jaccard
        return cls(sparsity, names, jaccard, chance)


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
        steps: The first of ``--at-steps`` at which the loss was no higher; None if at none. Steps
            that had flipped nothing are not counted: there the mask is the one it started from.
        why_none: Why there is nothing to say, if so.
    """

    method: str
    sparsity: float
    seed: int | None
    term: str
    loss: float
    imp_steps: int
    steps: int | None
    why_none: str | None = None

    def __str__(self) -> str:
        at = f"{self.method} at {self.sparsity:g}, seed {self.seed}"
        if self.why_none:
            return f"{at}, and the steps that equal IMP: {self.why_none}"
        imp = f"the {words(self.term)} that IMP has after {self.imp_steps} ({self.loss:.3f})"
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"cost": self.cost.to_dict()}


@dataclass(frozen=True)
class TextFacts:
    """A text that losses were measured on.

    Attributes:
        name: What tables call it; empty if it is the only one.
        source: The held-out part of what.
        sequences: How many were measured on.
        tokens: In each.
        trained_on: Labels of the tickets that were trained on it, by their own account.
    """

    name: str
    source: str
    sequences: int
    tokens: int
    trained_on: tuple[str, ...] = ()

    def __str__(self) -> str:
        sequences = f"{self.sequences:,} sequence" + ("" if self.sequences == 1 else "s")
        whose = f", the text of {' and '.join(self.trained_on)}" if self.trained_on else ""
        return f"{sequences} × {self.tokens} tokens of {self.source}{whose}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """What a comparison found.

    Attributes:
        config: As asked for.
        model: What the masks are of.
        texts: What the losses were measured on.
        measures: The losses, a term each; of several texts, on each.
        subnetworks: The dense model first.
        differences: Every two methods at the same level, but for two one-shot ones.
        overlaps: How alike the masks are.
        identical: Masks of different names that are one and the same, as sentences.
        correlations: Task → measure → how the loss goes with the score.
        derived: With ``keep_scores``, what every mask training gives at the other sparsities.
        steps_to_equal: With ``at_steps``, for every mask training beside iterative pruning.
        left_out: Cell → why it is missing: its run folder is damaged.
        notes: What a reader has to know of this comparison in particular.
        folder: Of the report.
        score_notes: What fine-tuned scores stand beside, and which runs learnt nothing.
    """

    config: CompareConfig
    model: str
    texts: list[TextFacts]
    measures: tuple[str, ...]
    subnetworks: list[Subnetwork]
    differences: list[Difference]
    overlaps: list[Overlaps]
    identical: list[str]
    correlations: dict[str, dict[str, RankCorrelation]]
    derived: list[Derived]
    steps_to_equal: list[StepsToEqual]
    left_out: dict[str, str]
    notes: list[str]
    folder: Path
    score_notes: list[str] = field(default_factory=list)

    @property
    def groups(self) -> Groups:
        """Method and level → the subnetworks that differ in their seed alone."""
        return groups_of(self.subnetworks)

    @property
    def corpus(self) -> str:
        """What the held-out text is of."""
        return ", ".join(text.source for text in self.texts)

    def spread(self, group: Sequence[Subnetwork], measure: str) -> Spread:
        """Return a loss over the seeds of a group."""
        return Spread.of([one.losses[measure].mean for one in group])

    def score(self, group: Sequence[Subnetwork], task: str) -> Spread:
        """Return a task's score over the seeds of a group and of its fine-tuning."""
        return Spread.of([run.score for one in group for run in one.scores[task].runs])

    @property
    def sentences(self) -> list[str]:
        """What there is to say, one comparison a line."""
        return [
            *(str(one) for one in self.differences if one.is_headline and not one.are_identical),
            *self.identical,
            *map(str, self.steps_to_equal),
            *(
                correlation_sentence(task, measure, found)
                for task, by_measure in self.correlations.items()
                for measure, found in by_measure.items()
            ),
            *self.score_notes,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "config": self.config.to_dict(),
            "model": self.model,
            "corpus": self.corpus,
            "blocks": min(text.sequences for text in self.texts),
            "texts": [asdict(text) for text in self.texts],
            "units": {measure: unit(measure) for measure in self.measures},
            "results": [one.row() for one in self.subnetworks],
            "differences": [one.to_dict() for one in self.differences],
            "sentences": self.sentences,
            "similarities": [
                {"sparsity": one.sparsity, "names": one.names, "jaccard": one.jaccard}
                | {"chance": one.chance}
                for one in self.overlaps
            ],
            "correlations": {
                task: {measure: found.to_dict() for measure, found in by_measure.items()}
                for task, by_measure in self.correlations.items()
            },
            "at_steps": [
                {"method": one.label, "sparsity": one.sparsity, "seed": one.seed, "step": step}
                | {f"{term}_loss": number_or_none(loss) for term, loss in losses.items()}
                for one in self.subnetworks
                for step, losses in one.along.items()
            ],
            "derived": [one.to_dict() for one in self.derived],
            "steps_to_equal": [asdict(one) for one in self.steps_to_equal],
            "left_out": self.left_out,
            "notes": self.notes,
            "folder": str(self.folder),
        }


def groups_of(subnetworks: Sequence[Subnetwork]) -> Groups:
    """Return method and level → the subnetworks that differ in their seed alone."""
    groups: Groups = {}
    for one in subnetworks:
        groups.setdefault((one.method, one.level), []).append(one)
    return groups


def correlation_sentence(task: str, measure: str, found: RankCorrelation) -> str:
    """Say how a score goes with a loss within the sparsities, and beside it what is had anyway."""
    about = f"{words(measure)} and {task}"
    if found.mean is None or not math.isfinite(found.mean.value):
        return f"{about} over the methods of a sparsity: {found.why_none}"
    sure = (
        f"95 % interval {found.mean.brackets}, from a bootstrap over methods"
        if found.mean.low is not None
        else f"without an interval: {found.mean.why_none}"
    )
    sentence = (
        f"{about}: within a sparsity, their rank correlation over the methods is "
        f"{found.mean.value:.2f} on average ({_within(found.within)}), {sure}"
    )
    if found.pooled is None or len(found.within) < 2:
        return sentence
    return (
        f"{sentence}; pooled over the sparsities it is {found.pooled:.2f}, which it would be near "
        "with any methods: more sparsity makes every loss higher and every score worse"
    )


def _within(within: Mapping[str, float | None]) -> str:
    return ", ".join(f"{level}: {'–' if r is None else f'{r:.2f}'}" for level, r in within.items())


def same_masks(subnetworks: Sequence[Subnetwork]) -> dict[bytes, list[Subnetwork]]:
    """Return the subnetworks that have one and the same mask, by a digest of it."""
    found: dict[bytes, list[Subnetwork]] = {}
    for one in subnetworks:
        if one.ticket:
            found.setdefault(one.ticket.masks_digest, []).append(one)
    return found
