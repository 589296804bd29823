"""Labels that are a single cell of a table: a name or a number."""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import numpy as np

from tamtctl.foundations.errors import TaskError


def plain_label(place: str, value: Any) -> Any:
    """Return a cell that is a name or a number.

    Args:
        place: Where the cell is from, for messages.
        value: The cell.

    Raises:
        TaskError: The cell is neither, or a number that is not finite.
    """
    is_infinite = isinstance(value, float) and not np.isfinite(value)  # or NaN
    if is_infinite or not isinstance(value, str | Number):
        raise TaskError(
            f"{place}: the label {value!r} is neither a name nor a number; correct it, or leave "
            "the example out"
        )
    return value


def as_number(value: Any) -> float:
    """Return the number in a cell, also one written as text; NaN if there is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
