"""Where tickets lie on this machine, by their names; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from tamtctl.training.run_folder import RUNS, TICKET

METADATA_FILE = "ticket.json"  # what makes a folder a ticket


def shelf() -> Path:
    """Return the folder of the packaged tickets: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "tickets"
    return installed if installed.is_dir() else package.parent / "tickets"


def packaged_tickets() -> dict[str, Path]:
    """Return name → folder of the tickets that come with tamtctl, by name."""
    return {path.parent.name: path.parent for path in sorted(shelf().glob(f"*/{METADATA_FILE}"))}


def ticket_names() -> list[str]:
    """Return what the tickets at hand are called: the packaged ones, and those of the runs."""
    of_runs = sorted(RUNS.glob(f"*/{TICKET}/{METADATA_FILE}"))
    return [*packaged_tickets(), *(str(path.parent) for path in of_runs)]
