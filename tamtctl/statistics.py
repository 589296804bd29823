"""How sure a comparison is: spread over seeds, paired bootstrap, correlation with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.held_out_loss import HeldOutLoss

RESAMPLES = 10_000
_LEVEL = (2.5, 97.5)  # percentiles: 95 % intervals
_NORMAL_975 = 1.959964


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and their standard deviation (n - 1), None for a single one."""

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
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Resampled:
    """A score on a dev set, and on resamples of it, (resamples,): the same ones for every run."""

    score: float
    resampled: NDArray[np.float64]


def loss_difference(a: Sequence[HeldOutLoss], b: Sequence[HeldOutLoss]) -> Interval:
    """Return by how much ``a`` has the higher loss than ``b``, by a paired bootstrap over blocks.

    Blocks of text are the independent units: both are asked the same questions on them, so what
    makes a block hard for both cancels out. Seeds are averaged, not resampled: the interval says
    how another text would move the difference between these very subnetworks.

    Args:
        a: The losses of one method, one per seed, on the same blocks.
        b: Those of another one.
    """
    counts = a[0].counts
    sums_a = np.mean([loss.sums for loss in a], axis=0)  # (blocks,)
    sums_b = np.mean([loss.sums for loss in b], axis=0)
    weights = _resamples(len(counts))
    differences = weights @ (sums_a - sums_b) / (weights @ counts)  # (resamples,)
    value = float((sums_a - sums_b).sum() / counts.sum())
    return Interval(value, *_percentiles(differences))


def score_difference(a: Sequence[Resampled], b: Sequence[Resampled]) -> Interval:
    """Return by how much ``a`` scores higher than ``b``, by a paired bootstrap over dev examples.

    Args:
        a: The scores of one method, one per seed of fine-tuning.
        b: Those of another one on the same examples.
    """
    value = np.mean([run.score for run in a]) - np.mean([run.score for run in b])
    under_a, under_b = (np.mean([run.resampled for run in runs], axis=0) for runs in (a, b))
    return Interval(float(value), *_percentiles(under_a - under_b))


def correlation(x: Sequence[float], y: Sequence[float]) -> Interval | None:
    """Return Pearson's correlation with Fisher's interval.

    None where there is none: for fewer than four points, or where one coordinate is constant.
    """
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    half = _NORMAL_975 / math.sqrt(len(x) - 3)
    with np.errstate(divide="ignore"):  # of a perfect one, the bounds are the value
        centre = np.arctanh(r)
    return Interval(r, float(np.tanh(centre - half)), float(np.tanh(centre + half)))


def _resamples(count: int) -> NDArray[np.int64]:
    """Return how often each unit is drawn in each resample, (resamples, count); always the same."""
    generator = np.random.Generator(np.random.Philox(key=0))
    return generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, _LEVEL)
    return float(low), float(high)
