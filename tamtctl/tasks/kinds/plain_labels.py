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
        return parsed_number(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def parsed_number(value: Any) -> float:
    """Return the number in a cell, also one written as text.

    Raises:
        TypeError, ValueError, OverflowError: There is none.
    """
    if isinstance(value, str) and "_" in value:
        raise ValueError("only Python reads 1_5 as 15")
    return float(value)
