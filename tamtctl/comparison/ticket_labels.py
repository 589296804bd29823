"""What the tables of a comparison call its tickets: short, and never two by one name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from tamtctl.pruning.recovery.record import MODEL
from tamtctl.training.run_folder import TICKET


def short_name(ticket: str) -> str:
    """Return what to call a ticket or a recovered model: that of a run is called after it."""
    path = Path(ticket)
    called = path.parent.name if path.name in (TICKET, MODEL) else ""
    called = called.removeprefix("search-").removeprefix("recover-")
    return called or path.name or Path(ticket).absolute().name or ticket


def ticket_labels(tickets: Sequence[str], reserved: Collection[str]) -> dict[str, str]:
    """Return a label for every ticket; of two with one short name, more of their paths is told.

    Args:
        tickets: As they were asked for; all differ.
        reserved: What else is in the tables.
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
