"""What a value must be: checks that end in one line which names the option."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from tamtctl.foundations.errors import UsageError


def one_of(option: str, value: str, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    """Raise UsageError, suggesting the nearest, unless ``value`` is one of the ``known`` names."""
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--{option} must be one of {', '.join(known)}, got {value!r}{hint}")


def positive(field_name: str, value: float | None) -> None:
    """Raise UsageError, naming the option, unless ``value`` is a number above 0, or None."""
    is_finite = value is None or math.isfinite(value)
    wanted = "greater than 0" if is_finite else "a finite number greater than 0"
    good = value is None or (is_finite and value > 0)
    require(field_name.replace("_", "-"), good, wanted, value)


def require(option: str, condition: bool, wanted: str, value: object) -> None:
    """Raise UsageError, which says what is ``wanted``, unless a condition holds."""
    if not condition:
        raise UsageError(f"--{option} must be {wanted}, got {value!r}")
