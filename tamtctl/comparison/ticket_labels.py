"""Labels of tickets in the tables of a comparison: short, and all different."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from tamtctl.training.run_folder import RECOVERED_MODEL, TICKET


def short_name(ticket: str) -> str:
    """Return a short name of a ticket or a recovered model; one in a run is named by the run."""
    path = Path(ticket)
    called = path.parent.name if path.name in (TICKET, RECOVERED_MODEL) else ""
    called = called.removeprefix("search-").removeprefix("recover-")
    return called or path.name or Path(ticket).absolute().name or ticket


def ticket_labels(tickets: Sequence[str], reserved: Collection[str]) -> dict[str, str]:
    """Return a label for every ticket; equal short names are extended by more of their paths.

    Args:
        tickets: The tickets as the user named them, all different.
        reserved: Other names in the tables, which no label may take.
    """
    labels = {name: short_name(name) for name in tickets}
    for depth in range(
        2, 1 + max((len(Path(name).absolute().parts) for name in tickets), default=0)
    ):
        clashing = [n for n in tickets if list(labels.values()).count(labels[n]) > 1]
        if not clashing:
            break
        labels |= {name: "/".join(Path(name).absolute().parts[-depth:]) for name in clashing}
    taken = {word.lower() for word in reserved}
    return {
        name: f"ticket {label}" if label.lower() in taken else label
        for name, label in labels.items()
    }
