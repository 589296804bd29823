"""Checks of values; each raises a UsageError of one line that names the option."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any

from tamtctl.foundations.errors import UsageError

# Takes the name of an option, without dashes, and a value; raises UsageError if it is refused.
Check = Callable[[str, Any], object]


def require(option: str, condition: bool, wanted: str, value: object) -> None:
    """Raise UsageError with what is ``wanted``, unless a condition holds.

    Args:
        option: The option's name, without its dashes.
        condition: Whether the value is accepted.
        wanted: What the value must be, in words.
        value: The value, for the message.
    """
    if not condition:
        raise UsageError(f"--{option} must be {wanted}, got {value!r}")


def one_of(option: str, value: str, known: Iterable[str]) -> None:
    """Raise UsageError, suggesting the nearest, unless ``value`` is one of the ``known`` names."""
    names = list(known)
    if value not in names:
        hint = did_you_mean(str(value), names)
        raise UsageError(f"--{option} must be one of {', '.join(names)}, got {value!r}{hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the known name nearest to a wrong one.

    Args:
        name: The wrong name.
        known: The valid names.

    Returns:
        ``; did you mean NEAREST?``, or an empty text if no known name is near.
    """
    names = list(known)
    turned = (one for one in names if sorted(one.split("+")) == sorted(name.split("+")))
    near = next(turned, None) or nearest(name, names)
    return f"; did you mean {near}?" if near else ""


def nearest(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """Return the known name that is spelt most like a wrong one.

    Args:
        name: The wrong name.
        known: The valid names.
        least: Least similarity of the name, from 0 to 1; see `difflib.get_close_matches`.

    Returns:
        The name; None if none is that similar.
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=least)), None)


def positive(option: str, value: float) -> None:
    """Raise UsageError unless ``value`` is a finite number above 0."""
    is_finite = math.isfinite(value)
    wanted = "greater than 0" if is_finite else "a finite number greater than 0"
    require(option, is_finite and value > 0, wanted, value)


def at_least(least: int) -> Check:
    """Return a check that a number is finite and at least ``least``."""

    def check(option: str, value: float) -> None:
        require(option, math.isfinite(value) and value >= least, f"at least {least}", value)

    return check


def seed_number(option: str, value: int) -> None:
    """Raise UsageError unless ``value`` is a valid seed of random generators."""
    require(option, 0 <= value < 2**32, "in [0, 2**32)", value)


def given(wanted: str) -> Check:
    """Return a check that a text, or a sequence of values, is not empty."""

    def check(option: str, value: Sequence[object]) -> None:
        require(option, bool(value), wanted, value)

    return check


def each(check_one: Check) -> Check:
    """Return a check that applies the check of one value to each of several."""

    def check(option: str, values: Iterable[object]) -> None:
        for value in values:
            check_one(option, value)

    return check


def sequence(what: str, values: object) -> None:
    """Raise UsageError if ``values`` is a single name, which would be read letter by letter."""
    if isinstance(values, str | PathLike):
        raise UsageError(f"give {what} as a list, not as {str(values)!r}")


def different(option: str, values: Sequence[object]) -> None:
    """Raise UsageError if a value occurs twice."""
    if twice := [one for one in values if list(values).count(one) > 1]:
        raise UsageError(f"--{option} has {twice[0]!r} twice; give it once")
