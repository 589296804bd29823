"""The difference of every two methods at a level in every measure, with its interval."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tamtctl.comparison.found import Found, Table
from tamtctl.comparison.intervals import loss_difference, metric_difference
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import is_loss, term_of, words
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import DENSE, Subnetwork, did_not_train, is_scored
from tamtctl.foundations.estimates import Interval, thousandths
from tamtctl.pruning.criteria import REFERENCE, baselines
from tamtctl.pruning.methods import IMP
from tamtctl.pruning.objectives import terms_of
from tamtctl.tasks.kinds.table import higher_is_better

_UNTOLD = 4  # pairs at most that the first paragraph names


@dataclass(frozen=True)
class Difference:
    """The difference of two methods at one level in one measure.

    Attributes:
        a: The label of one method.
        b: The label of the other method.
        level: The level of both.
        measure: A loss or a task; see `tamtctl.comparison.measures`.
        interval: The value of ``a`` minus that of ``b``, from a paired bootstrap over blocks of
            text, or over dev examples.
        is_headline: Whether a sentence reports it: the loss that a method was trained for, or that
            less work does better.
        are_identical: Whether the two masks are the same.
        higher_is_better: Whether a higher value of the measure is better.
        failed: A clause on methods with runs that did not train; empty if all trained.
    """

    a: str
    b: str
    level: Level
    measure: str
    interval: Interval
    is_headline: bool
    are_identical: bool = False
    higher_is_better: bool = False
    failed: str = ""

    @property
    def is_claimed(self) -> bool:
        """Whether one of the two is significantly better."""
        return self.interval.is_claimed and not self.are_identical

    @property
    def is_upset(self) -> bool:
        """Whether ``b``, which takes less work than ``a``, is significantly better."""
        return self.is_claimed and (self.interval.value > 0) != self.higher_is_better

    def __str__(self) -> str:
        if self.are_identical:
            return f"{self.a} and {self.b} at {self.level} are identical masks"
        where = f"at {self.level} in {words(self.measure)}"
        value = self.interval.value
        failed = f"; {self.failed}" if self.failed else ""
        if self.interval.low is None:
            return f"{self.a} and {self.b} {where}: {self.interval.why_none}"
        if not self.is_claimed:
            return (
                f"{self.a} and {self.b} cannot be told apart {where}: a difference of "
                f"{self._written(value)}, 95 % interval {self.interval.brackets}{failed}"
            )
        a_is_better = (value > 0) == self.higher_is_better
        better, worse = (self.a, self.b) if a_is_better else (self.b, self.a)
        return (
            f"{better} beats {worse} {where} by {self._written(abs(value))}, "
            f"95 % interval {self.interval.brackets_of_size}{failed}"
        )

    def _written(self, value: float) -> str:
        number = thousandths(value)
        return terms_of(term_of(self.measure)).written(number) if is_loss(self.measure) else number

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
class Differences(Found):
    """The differences of every two methods that are compared with each other."""

    differences: Sequence[Difference]

    def lead(self) -> list[str]:
        """Return which methods of the headline differences cannot be told apart."""
        untold = [
            f"{one.a} and {one.b} at {one.level} in {words(one.measure)}"
            for one in self.differences
            if one.is_headline and not one.is_claimed and not one.are_identical
        ]
        if not untold:
            return []
        more = len(untold) - _UNTOLD
        pairs = "pair" if more == 1 else "pairs"
        rest = [f"{more} more {pairs} in the table of differences"] if more > 0 else []
        return [f"Not to be told apart are {'; '.join(untold[:_UNTOLD] + rest)}."]

    def sentences(self) -> list[str]:
        """Return the headline differences, one sentence each."""
        return [str(one) for one in self.differences if one.is_headline and not one.are_identical]

    def table(self) -> Table:
        """Return all differences."""
        heading = ["sparsity", "measure", "a", "b", "a − b", "95 % interval"]
        rows = []
        for one in self.differences:
            interval = "identical masks" if one.are_identical else one.interval.brackets
            value = thousandths(one.interval.value)
            rows.append([str(one.level), words(one.measure), one.a, one.b, value, interval])
        return Table(heading, rows, words=4)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"differences": [one.to_dict() for one in self.differences]}


def find(comparison: Comparison, opened: Opened) -> Differences:
    """Return the differences of every two methods at the same level, in every measure."""
    return Differences(list(_differences(comparison)))


def _differences(comparison: Comparison) -> Iterator[Difference]:
    measures, tasks = comparison.measures, comparison.config.tasks
    for pair in itertools.combinations(comparison.groups.values(), 2):
        first, second = sorted(pair, key=lambda group: _rank(group[0]))
        a, b = first[0], second[0]
        if a.level != b.level or not _are_compared(a, b):
            continue
        wanted = {term for one in (a, b) for term in _trained_for(one, measures)}
        if not b.is_given:
            wanted = set(_trained_for(a, measures))
        digests = {one.masks.digest for group in pair for one in group if one.masks}
        for measure in (*measures, *tasks):
            failed = ""
            if measure in measures:
                interval = loss_difference(
                    *([o.losses[measure] for o in g] for g in (first, second))
                )
            elif is_scored([*first, *second], measure):
                runs = ([r for o in g for r in o.metrics[measure].runs] for g in (first, second))
                interval = metric_difference(*runs)
                failed = did_not_train((first, second), measure)
            else:
                continue
            one = Difference(
                a.label,
                b.label,
                a.level,
                measure,
                interval,
                is_headline=_is_told(b) and (measure in tasks or term_of(measure) in wanted),
                are_identical=len(digests) == 1,
                higher_is_better=measure in tasks and higher_is_better(a.metrics[measure].metric),
                failed=failed,
            )
            yield replace(one, is_headline=True) if one.is_upset else one


def _are_compared(a: Subnetwork, b: Subnetwork) -> bool:
    """Return whether both are compared as masks; the dense model is none."""
    return DENSE not in (a.method, b.method)


def _is_told(b: Subnetwork) -> bool:
    """Return whether sentences compare ``b`` with methods that take more work."""
    return b.is_given or b.method in (REFERENCE, IMP) or (b.is_one_shot and not b.is_baseline)


def _trained_for(one: Subnetwork, measures: Sequence[str]) -> list[str]:
    """Return the losses that a mask was trained for; of an untrained one, the first."""
    terms = [term_of(measure) for measure in measures]
    wanted = (one.objective or terms[0]).split("+")
    return [term for term in wanted if term in terms] or terms[:1]


def _rank(one: Subnetwork) -> int:
    """Return the rank of a mask by the work it takes: 0 for most, given tickets included."""
    if one.is_baseline:
        return 3 + [row.name for row in baselines()].index(one.method)
    if one.is_one_shot:
        return 2
    return int(one.method == IMP and not one.is_given)
