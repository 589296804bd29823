"""What a user gives for a setting, as the type that its field declares, or a line that says which.

The command line gives every value its type; a notebook may give a path where a text is meant, or
one text where there may be several, and both mean what they say.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from tamtctl.foundations.errors import UsageError

_WORDS = {
    "str": "a text or a path",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
}


def settle(config: Any) -> None:
    """Give every field of a frozen configuration the type that it declares.

    Raises:
        UsageError: A value is of another type; the message names the option.
    """
    for field in fields(config):
        value = settled(field.name, str(field.type), getattr(config, field.name))
        object.__setattr__(config, field.name, value)


def settled_changes(kind: type, changes: dict[str, Any]) -> dict[str, Any]:
    """Return values for fields of a configuration, as the types that they declare.

    Raises:
        UsageError: There is no such field, or a value is of another type.
    """
    types = {field.name: str(field.type) for field in fields(kind)}
    for name in changes:
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{kind.__name__} has no setting {name!r}{hint}")
    return {name: settled(name, types[name], value) for name, value in changes.items()}


def settled(name: str, declared: str, value: Any) -> Any:
    """Return a value as the declared type, such as ``tuple[str, ...]`` or ``int | None``.

    Raises:
        UsageError: It is of another type.
    """
    parts = [part.strip() for part in declared.split("|")]
    if value is None and "None" in parts:
        return None
    if inner := next((p[6:].partition(",")[0] for p in parts if p.startswith("tuple[")), None):
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_one(name, inner, one, f"{_WORDS[inner]}, or several") for one in values)
    known = next((part for part in parts if part in _WORDS), None)
    if known is None or type(value).__name__ in parts:  # a type that only we make
        return value
    return _one(name, known, value, _WORDS[known])


def _one(name: str, kind: str, value: Any, wanted: str) -> Any:
    if kind == "str" and isinstance(value, str):
        return str(value)
    if kind == "str" and isinstance(value, os.PathLike) and isinstance(os.fspath(value), str):
        return os.fspath(value)
    is_number = not isinstance(value, bool)
    if kind == "int" and is_number and isinstance(value, Integral):
        return int(value)
    if kind == "float" and is_number and isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else _as_written(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
    raise UsageError(f"--{name.replace('_', '-')} must be {wanted}, got {' '.join(shown.split())}")


def _as_written(value: Real) -> float:
    """Return a number as its maker wrote it: 0.7 of a single precision is 0.7, not 0.69999999.

    A sparsity a little below would keep one weight more in a matrix.
    """
    is_of_numpy = hasattr(value, "dtype") and not isinstance(value, float)
    return float(str(value)) if is_of_numpy else float(value)
