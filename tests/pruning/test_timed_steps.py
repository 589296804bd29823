"""The time that a search says it will take counts all of a step, and taking it changes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_search import small_config
from torch import Tensor

from tamtctl.data.units import BLOCKS
from tamtctl.foundations.watching import Silent
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.run import PreparedSearch
from tamtctl.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("working_folder")
SECONDS = 0.5  # of an update that is far slower than a tiny model's own


def prepared(config: SearchConfig) -> PreparedSearch:
    settled = config.filled_in(rows=BLOCKS)
    return PreparedSearch.prepare(settled, RunFolder(Path("run"), {}), Silent())


def numbers(search: PreparedSearch) -> dict[str, Tensor]:
    """Return copies of everything that the next step depends on, by name."""
    state = {**search.training.state_dict(), "model": search.encoder.model.state_dict()}
    tensors = ((f"{part} {n}", t) for part, values in state.items() for n, t in values.items())
    return {name: tensor.detach().clone() for name, tensor in tensors}


def test_an_update_counts(tiny_model: Path, text_file: Path) -> None:
    steps = prepared(small_config(tiny_model, text_file)).training.steps
    assert steps.seconds_per_step(lambda: time.sleep(SECONDS)) > SECONDS


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "kd", "low_memory": True},
        {"pattern": "2:4", "sparsity": 0.5},
        {"pattern": "neurons", "init_scores": "nats"},
        {"init": "wanda", "calibration_tokens": 256, "init_scores": "nats", "word_floor": 0.5},
        {"method": "imp", "prune_every": 2, "steps": None},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_timing_changes_nothing(changes: dict[str, Any], tiny_model: Path, text_file: Path) -> None:
    search = prepared(small_config(tiny_model, text_file, **changes))
    before = numbers(search)
    assert search.training.seconds_per_step() > 0
    after = numbers(search)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in search.encoder.model.parameters())
