"""Numbers as people read them."""

from __future__ import annotations


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000 as the Hub shows it."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
