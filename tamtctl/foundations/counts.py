"""A number with its noun, in the singular or the plural."""

from __future__ import annotations


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as ``1 matrix`` or ``1,024 matrices``.

    Args:
        number: The number.
        noun: The noun in the singular.
        plural: The noun in the plural, if it is not the singular with an s.
    """
    return f"{number:,} " + (noun if number == 1 else plural or f"{noun}s")
