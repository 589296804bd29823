"""Words set out in columns of the width that a screen shows them in."""

from __future__ import annotations

import textwrap

from rich.cells import cell_len

GAP = "  "  # between columns


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Fill a text up with spaces, behind it or before it."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def hanging(label: str, text: str, indent: int, width: int) -> list[str]:
    """Set a text behind its label, broken between words; no word, such as a path, is broken."""
    lines = textwrap.wrap(
        text, max(width - indent, 20), break_long_words=False, break_on_hyphens=False
    ) or [""]
    first = padded(label, indent)
    if label and cell_len(label) >= indent:
        first += GAP
    return [f"{first}{lines[0]}".rstrip(), *(" " * indent + line for line in lines[1:])]
