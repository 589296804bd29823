"""An estimate with its interval, and numbers as tables and JSON have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval.

    Attributes:
        value: The estimate.
        low: The lower bound; None where there is no interval.
        high: The upper bound.
        why_none: Why there is no interval: ``too few to tell (2 sequences; 8 are needed)``.
    """

    value: float
    low: float | None
    high: float | None
    why_none: str | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves 0 out; one without any width says nothing."""
        if self.low is None or self.high is None:
            return False
        are_numbers = all(map(math.isfinite, (self.value, self.low, self.high)))
        return are_numbers and self.low < self.high and (self.low > 0 or self.high < 0)

    @property
    def brackets(self) -> str:
        """The bounds, or why there are none, as a table shows them."""
        if self.low is None or self.high is None:
            return self.why_none or "–"
        return f"[{thousandths(self.low)}, {thousandths(self.high)}]"

    @property
    def brackets_of_size(self) -> str:
        """The bounds of its size, where the interval leaves 0 out: those of −0.2 are positive."""
        assert self.low is not None
        assert self.high is not None
        low, high = sorted((abs(self.low), abs(self.high)))
        return f"[{thousandths(low)}, {thousandths(high)}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what is no number is null."""
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
    """Return a value as JSON can hold it: what is no number is null."""
    return value if value is not None and math.isfinite(value) else None
