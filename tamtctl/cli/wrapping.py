"""Padding and breaking of text by the width that a screen shows it in."""

from __future__ import annotations

import textwrap

from rich.cells import cell_len

GAP = "  "  # between columns


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Fill a text up to a width with spaces: behind it, or before it if ``right``."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def hanging(label: str, text: str, indent: int, width: int) -> list[str]:
    """Return the lines of a label and its text, broken between words; no word is broken."""
    lines = textwrap.wrap(
        text, max(width - indent, 20), break_long_words=False, break_on_hyphens=False
    ) or [""]
    first = padded(label, indent)
    if label and cell_len(label) >= indent:
        first += GAP
    return [f"{first}{lines[0]}".rstrip(), *(" " * indent + line for line in lines[1:])]
