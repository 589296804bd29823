"""The declared types of settings, and converting a user's values to them.

Several values are declared as a ``Sequence``, so that type checkers accept lists and single texts,
and are stored as a tuple.

The command line converts values itself. In a notebook, a path may be given for a text, and a single
text for several.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

from tamtctl.foundations.errors import UsageError

_SEVERAL = re.compile(r"(?:Sequence|tuple)\[(\w+)")
_WORDS = {
    "str": "a text or a path",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
}
_TYPES = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class SettingType:
    """The type that a setting declares, such as ``Sequence[str]`` or ``int | None``.

    Attributes:
        one: ``str``, ``int``, ``float`` or ``bool``, of the value or of each of several; None: a
            type that only tamtctl makes.
        is_several: Whether the value is a tuple, declared as a ``Sequence``.
        may_be_none: Whether it may be None.
        further: Names of further types that only tamtctl makes.
    """

    one: str | None
    is_several: bool
    may_be_none: bool
    further: tuple[str, ...]

    @classmethod
    def of(cls, declared: str | type) -> Self:
        """Return the type of a field from `dataclasses.Field.type`, a text or a type."""
        text = declared.__name__ if type(declared) is type else str(declared)
        parts = [part.strip() for part in text.split("|")]
        several = next((m[1] for m in map(_SEVERAL.match, parts) if m), None)
        one = several or next((part for part in parts if part in _WORDS), None)
        further = (part for part in parts if part not in (*_WORDS, "None") and "[" not in part)
        return cls(one, several is not None, "None" in parts, tuple(further))

    @property
    def type_of_one(self) -> type:
        """The Python type of one value."""
        return _TYPES[self.one or "str"]

    @property
    def words(self) -> str:
        """What a value must be, for people."""
        return _WORDS[self.one or "str"] + (", or several" if self.is_several else "")

    def settled(self, name: str, value: Any) -> Any:
        """Return a value converted to this type.

        Args:
            name: The setting's name, for the message.
            value: The user's value.

        Raises:
            UsageError: The value has another type.
        """
        if value is None and self.may_be_none:
            return None
        if self.is_several:
            values = value if isinstance(value, list | tuple) else [value]
            return tuple(self._one(name, one) for one in values)
        if self.one is None or type(value).__name__ in self.further:
            return value
        return self._one(name, value)

    def _one(self, name: str, value: Any) -> Any:
        kind = self.one
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
        option = name.replace("_", "-")
        raise UsageError(f"--{option} must be {self.words}, got {' '.join(shown.split())}")


def _as_written(value: Real) -> float:
    """Return a number of numpy as it is printed: 0.7 in float32 becomes 0.7, not 0.69999999.

    A sparsity that is slightly smaller could keep one more weight in a matrix.
    """
    is_of_numpy = hasattr(value, "dtype") and not isinstance(value, float)
    return float(str(value)) if is_of_numpy else float(value)
