"""A small search, ways to interrupt it, and all that must be equal afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tamtctl.foundations.watching import StepReport
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search

STEPS = 40

# The same in a file, for iterative pruning, too.
RECIPE = """
batch-size = 4
sequence-length = 16
learning-rate = 5e-3
init = "magnitude"
init-scores = "two-valued"
[imp]
prune-every = 2
learning-rate = 5e-2
"""


def small_config(model: Path, text: Path, **changes: Any) -> SearchConfig:
    """Return a search of a second or less, which flips a third of its mask."""
    values: dict[str, Any] = {
        "sparsity": 0.7,
        "model": str(model),
        "corpus": (str(text),),
        "steps": STEPS,
        "batch_size": 4,
        "sequence_length": 16,
        "learning_rate": 5e-3,
        "init": "magnitude",
        "init_scores": "two-valued",
        "evaluation_blocks": 8,
        "device": "cpu",
    }
    return SearchConfig.from_recipe("nano", **(values | changes))


class Interrupting:
    """A watcher that ends the search by an error of its own after a step."""

    class Ended(Exception):  # noqa: N818, it is none
        pass

    def __init__(self, after: int = STEPS + 1) -> None:
        self.after = after
        self.notes: list[str] = []

    def status(self, message: str) -> None: ...
    def plan(self, plan: object) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)

    def progress(self, report: StepReport) -> None:
        if report.step >= self.after:
            raise self.Ended


def interrupted(config: SearchConfig, run: Path, after: int) -> list[Path]:
    """Run a search that ends in step ``after``; return its checkpoints, oldest first."""
    with pytest.raises(Interrupting.Ended):
        search(config, output_dir=run, watcher=Interrupting(after))
    return sorted((run / "checkpoints").iterdir())


def bits(ticket: Path) -> dict[str, Any]:
    """Return all of a ticket but when it was made."""
    metadata = json.loads((ticket / "ticket.json").read_text())
    del metadata["created"]
    return {"metadata": metadata} | {
        file.name: file.read_bytes() for file in ticket.glob("*.safetensors")
    }


def command(config: SearchConfig, *more: object) -> list[object]:
    """Return the command line of a small search."""
    options: list[object] = ["search", "--output-dir", "run", "--json"]
    for name in (
        "sparsity", "model", "steps", "batch_size", "sequence_length", "learning_rate", "init",
        "init_scores",
    ):  # fmt: skip
        options += ["--" + name.replace("_", "-"), getattr(config, name)]
    return [*options, "--corpus", config.corpus[0], "--device", "cpu", *more]
