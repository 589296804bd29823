"""The licence of a model, read from the card beside its weights."""

from __future__ import annotations

import re
from pathlib import Path

from tamtctl.foundations.plain_files import leads_out, read_regular
from tamtctl.models.files import folder_here

CARD = "README.md"
MOST_BYTES = 2**21
_NAME = r"[A-Za-z0-9][\w.+-]{0,63}"
_LINE = re.compile(rf"license:[ \t]*(['\"]?)(?P<licence>{_NAME})\1[ \t]*", re.ASCII)
# The Hub's names for a licence that a card does not name.
_UNTOLD = ("unknown", "other")


def licence_of(name: str, revision: str | None = None) -> str | None:
    """Return the licence of a model on this machine, in the Hub's names of licences.

    Args:
        name: ``nano``, a folder, or a Hub id, whose card is looked for in the Hub's cache.
        revision: Its commit, branch or tag on the Hub.

    Returns:
        A name such as ``apache-2.0``; None if no card on this machine names one.
    """
    folder = folder_here(name, revision, CARD)
    return None if folder is None else _told_in(folder)


def known_licence(told: object) -> str | None:
    """Return a licence told by others, in lower case; None if it is no name of a licence."""
    is_name = isinstance(told, str) and re.fullmatch(_NAME, told, re.ASCII)
    return str(told).lower() if is_name and str(told).lower() not in _UNTOLD else None


def _told_in(folder: Path) -> str | None:
    """Return the licence in the front matter of a card, between two lines of ``---``."""
    try:
        if leads_out(folder, CARD):
            return None
        text = read_regular(folder / CARD, MOST_BYTES).decode("utf-8")
    except (OSError, ValueError):
        return None
    first, *lines = text.lstrip("\ufeff").splitlines() or [""]
    if first.rstrip() != "---":
        return None
    for line in lines:
        if line.rstrip() == "---":
            return None
        if match := _LINE.fullmatch(line):
            return known_licence(match["licence"])
    return None
