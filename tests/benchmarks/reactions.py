"""The reactions of a folder of other people's data, as a text to search on."""

from __future__ import annotations

import csv
from pathlib import Path


def write_reactions(folder: Path) -> Path:
    """Write the training reactions, without their classes, one a line; return the file."""
    lines = Path("reactions.txt")
    with (folder / "train.csv").open(newline="") as file:
        lines.write_text("".join(row["reaction"] + "\n" for row in csv.DictReader(file)))
    return lines
