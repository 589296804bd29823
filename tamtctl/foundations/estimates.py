"""An estimate with its interval, and the format of numbers in tables and JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PERCENTILES = (2.5, 97.5)  # of resamples


def interval_of(resamples: NDArray[np.float64]) -> tuple[float, float]:
    """Return the bounds of the 95 % interval that resamples span."""
    low, high = np.percentile(resamples, _PERCENTILES)
    return float(low), float(high)


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval.

    Attributes:
        value: The estimate.
        low: The lower bound; None if there is no interval.
        high: The upper bound; None if there is no interval.
        why_none: Why there is no interval, such as ``too few to tell (2 sequences; 8 are needed)``.
    """

    value: float
    low: float | None
    high: float | None
    why_none: str | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0; an interval of no width does not count."""
        if self.low is None or self.high is None:
            return False
        are_numbers = all(map(math.isfinite, (self.value, self.low, self.high)))
        return are_numbers and self.low < self.high and (self.low > 0 or self.high < 0)

    @property
    def is_claimed(self) -> bool:
        """Whether it is significant, and large enough that three decimals show it."""
        return self.is_significant and abs(self.value) >= 0.0005

    @property
    def brackets(self) -> str:
        """The bounds for a table, or why there are none."""
        if self.low is None or self.high is None:
            return self.why_none or "–"
        return f"[{thousandths(self.low)}, {thousandths(self.high)}]"

    @property
    def brackets_of_size(self) -> str:
        """The bounds of the absolute value, for an interval that excludes 0."""
        assert self.low is not None
        assert self.high is not None
        low, high = sorted((abs(self.low), abs(self.high)))
        return f"[{thousandths(low)}, {thousandths(high)}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; infinity and NaN become null."""
        return {
            "value": number_or_none(self.value),
            "low": number_or_none(self.low),
            "high": number_or_none(self.high),
            "why_none": self.why_none,
        }


def thousandths(value: float) -> str:
    """Return a number with three decimals, and no minus before a zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def number_or_none(value: float | None) -> float | None:
    """Return a value for JSON; infinity and NaN become None."""
    return value if value is not None and math.isfinite(value) else None
