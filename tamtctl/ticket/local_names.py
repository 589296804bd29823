"""Folders and names of the tickets on this machine; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from tamtctl.training.run_folder import RUNS, TICKET

METADATA_FILE = "ticket.json"  # a folder with this file is a ticket


def packaged_folder() -> Path:
    """Return the folder of the packaged tickets: in the package or, in a checkout, beside it."""
    package = Path(__file__).parents[1]
    installed = package / "tickets"
    return installed if installed.is_dir() else package.parent / "tickets"


def packaged_tickets() -> dict[str, Path]:
    """Return name → folder of the packaged tickets, sorted by name."""
    return {
        path.parent.name: path.parent
        for path in sorted(packaged_folder().glob(f"*/{METADATA_FILE}"))
    }


def ticket_names() -> list[str]:
    """Return the names of the packaged tickets and of those under ``runs/``."""
    of_runs = sorted(RUNS.glob(f"*/{TICKET}/{METADATA_FILE}"))
    return [*packaged_tickets(), *(str(path.parent) for path in of_runs)]
