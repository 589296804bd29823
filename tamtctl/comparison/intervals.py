"""The statistics of a comparison: spread over seeds, paired bootstrap, rank correlation.

With too few units to resample, an interval has no bounds but says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.foundations.counts import count
from tamtctl.foundations.estimates import Interval, interval_of, number_or_none
from tamtctl.foundations.measured_text import MIN_SEQUENCES
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES

RESAMPLES = 10_000
MIN_METHODS = 4  # for a rank correlation
_METHOD_RESAMPLES = 2_000
_FEWEST_DISTINCT = 3  # methods in a resample: the rank correlation of two is always 1 or -1


@dataclass(frozen=True)
class Spread:
    """The mean over seeds, and their standard deviation (n - 1), None for a single seed."""

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise one value per seed."""
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), std, len(values))

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


@dataclass(frozen=True)
class Resampled:
    """A metric on a dev set and on resamples of it; all runs have the same resamples.

    Attributes:
        value: The metric on the dev set.
        resampled: The metric on each resample, (resamples,).
        examples: How many the dev set has.
        groups: How many groups of examples a resample draws whole; None if it draws examples.
    """

    value: float
    resampled: NDArray[np.float64]
    examples: int
    groups: int | None = None


@dataclass(frozen=True)
class RankCorrelation:
    """How a task's metric correlates with a loss over the methods of a sparsity.

    Attributes:
        within: Level → Spearman's rank correlation over its methods; None where they are too few,
            or all alike.
        methods: Level → how many methods there are.
        mean: Mean of the correlations within a level, with the interval of a bootstrap clustered
            by method; None if there are none.
        pooled: Pearson's correlation over all subnetworks of all sparsities. It is often near −1
            whatever the methods, as more sparsity makes the loss higher and the metric worse.
    """

    within: Mapping[str, float | None]
    methods: Mapping[str, int]
    mean: Interval | None
    pooled: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        mean = self.mean or Interval(math.nan, None, None, self.why_none)
        return {
            "mean_rank_correlation_within_sparsities": mean.to_dict(),
            "within": dict(self.within),
            "methods": dict(self.methods),
            "pooled_over_sparsities": number_or_none(self.pooled),
        }

    @property
    def why_none(self) -> str:
        """The reason why there is no correlation within a sparsity."""
        most = max(self.methods.values(), default=0)
        if most < MIN_METHODS:
            return too_few(most, MIN_METHODS, "method")
        return "all methods are alike"


def loss_difference(a: Sequence[HeldOutLoss], b: Sequence[HeldOutLoss]) -> Interval:
    """Return the loss of ``a`` minus that of ``b``, with a paired bootstrap over blocks of text.

    Both methods answer for the same masked tokens, so what makes a block hard for both cancels
    out. Seeds are averaged, not resampled: the interval says how another text would move the
    difference between these very subnetworks.

    Args:
        a: The losses of one method, one per seed, on the same blocks.
        b: The losses of another method.
    """
    asks = a[0].counts > 0  # blocks without a masked token are left out
    counts = a[0].counts[asks]
    sums = np.mean([x.sums for x in a], axis=0) - np.mean([x.sums for x in b], axis=0)
    differences = sums[asks]  # (blocks,)
    value = float(differences.sum() / counts.sum()) if len(counts) else math.nan
    if why := too_few_sequences(a[0]):
        return Interval(value, None, None, why)
    weights = _resamples(len(counts))
    return Interval(value, *interval_of(weights @ differences / (weights @ counts)))


def mean_over_seeds(losses: Sequence[HeldOutLoss]) -> HeldOutLoss:
    """Return the mean loss of several seeds on the same text, as one loss of that text."""
    return replace(losses[0], sums=np.mean([one.sums for one in losses], axis=0))


def metric_difference(a: Sequence[Resampled], b: Sequence[Resampled]) -> Interval:
    """Return the metric of ``a`` minus that of ``b``, with a paired bootstrap over dev examples.

    Args:
        a: The metric of one method, one value per seed of fine-tuning.
        b: The same metric of another method on the same examples.
    """
    value = float(np.mean([run.value for run in a]) - np.mean([run.value for run in b]))
    if why := too_few_examples([*a, *b]):
        return Interval(value, None, None, why)
    under_a, under_b = (np.mean([run.resampled for run in runs], axis=0) for runs in (a, b))
    return Interval(value, *interval_of(under_a - under_b))


def rank_correlation(
    points: Mapping[str, Mapping[str, tuple[float, float]]], *, why_none: str | None = None
) -> RankCorrelation:
    """Return the correlation of two values over the methods of every level, and its mean.

    The interval is from a bootstrap that draws methods with all their levels, as a method that is
    good at one sparsity tends to be good at the next.

    Args:
        points: Level → method → its two values.
        why_none: Why there is no interval, if the caller knows of a reason.
    """
    within = {level: _within(list(of.values())) for level, of in points.items()}
    known = [rho for rho in within.values() if rho is not None]
    methods = {level: len(of) for level, of in points.items()}
    pooled = _pearson([point for of in points.values() for point in of.values()])
    if not known:
        return RankCorrelation(within, methods, None, pooled)
    mean = float(np.mean(known))
    ranked = {level: of for level, of in points.items() if within[level] is not None}
    interval = Interval(mean, None, None, why_none) if why_none else _clustered(mean, ranked)
    return RankCorrelation(within, methods, interval, pooled)


def too_few(found: int, needed: int, unit: str) -> str:
    """Return why there is no interval."""
    units = count(found, unit, "batches" if unit == "batch" else None)
    return f"too few to tell ({units}; {needed} are needed)"


def too_few_sequences(loss: HeldOutLoss) -> str | None:
    """Return why there is no interval of a loss, None if there is one."""
    count = len(loss.counts)
    if loss.units_with_targets < min(count, MIN_SEQUENCES):
        there = f"{loss.units_with_targets} of {count} sequences have targets"
        return f"too few to tell ({there}; {MIN_SEQUENCES} are needed)"
    unit = "sequence" if loss.group_size == 1 else "batch"
    return too_few(count, MIN_SEQUENCES, unit) if count < MIN_SEQUENCES else None


def too_few_examples(runs: Sequence[Resampled]) -> str | None:
    """Return why there is no interval of metrics, None if there is one."""
    fewest = min(runs, key=lambda run: run.groups or run.examples)
    count, unit = fewest.groups or fewest.examples, "group" if fewest.groups else "example"
    return too_few(count, MIN_EXAMPLES, unit) if count < MIN_EXAMPLES else None


def _within(points: Sequence[tuple[float, float]]) -> float | None:
    return _spearman(np.array(points, np.float64)) if len(points) >= MIN_METHODS else None


def _spearman(points: NDArray[np.float64]) -> float | None:
    """Return the rank correlation of points (n, 2), None if a coordinate is constant."""
    ranks = np.stack([_ranks(points[:, 0]), _ranks(points[:, 1])])
    if not np.isfinite(points).all() or np.any(np.ptp(ranks, axis=1) == 0):
        return None
    return _correlation(ranks)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of every value from 1; equal ones share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _pearson(points: Sequence[tuple[float, float]]) -> float | None:
    table = np.array(points, np.float64)
    if len(table) < MIN_METHODS or not np.isfinite(table).all() or np.any(np.ptp(table, 0) == 0):
        return None
    return _correlation(table.T)


def _correlation(rows: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of two rows (2, n)."""
    return float(np.clip(np.asarray(np.corrcoef(rows))[0, 1], -1, 1))


def _clustered(mean: float, points: Mapping[str, Mapping[str, tuple[float, float]]]) -> Interval:
    names = list(dict.fromkeys(name for of in points.values() for name in of))
    generator = np.random.Generator(np.random.Philox(key=0))
    drawn = generator.integers(len(names), size=(_METHOD_RESAMPLES, len(names)))
    resamples = Counter(tuple(sorted(names[i] for i in row)) for row in drawn)  # few are distinct
    means: list[float] = []
    for chosen, times in resamples.items():
        tables = [
            np.array([of[name] for name in chosen if name in of])
            for of in points.values()
            if len({name for name in chosen if name in of}) >= _FEWEST_DISTINCT
        ]
        found = [rho for rho in map(_spearman, tables) if rho is not None]
        if found:
            means += [float(np.mean(found))] * times
    low, high = interval_of(np.array(means)) if means else (math.nan, math.nan)
    if not low < high:
        return Interval(mean, None, None, f"every resample of the {len(names)} methods is alike")
    return Interval(mean, low, high)


@lru_cache(maxsize=1)  # all differences on a text have the same, and drawing takes longest
def _resamples(count: int) -> NDArray[np.int64]:
    """Return how often each resample draws each unit, (resamples, count), by a fixed seed."""
    generator = np.random.Generator(np.random.Philox(key=0))
    return generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
