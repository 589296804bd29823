"""A ticket below the dense model stands beside the dense model that was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from passes import counted_passes
from small_search import RECIPE

from tamtctl.comparison.ceiling import below_dense
from tamtctl.comparison.subnetworks import Subnetwork
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss

pytestmark = pytest.mark.usefixtures("working_folder")


def test_a_ticket_that_has_learnt_the_text_has_its_ceiling(run: Run, tiny_model: Path) -> None:
    Path("tiny.toml").write_text(RECIPE)
    Path("alike.txt").write_text(
        "".join(f"{'the list of names ' * 3}{'a ' * i}\n" for i in range(99))
    )
    words = "compare --sparsity 0.5 --methods tamt-mlm,magnitude --blocks 32 --json".split()
    words += ["--recipe", "tiny.toml", "--prune-every", "10", "--device", "cpu"]
    done = run(*words, "--model", tiny_model, "--corpus", "alike.txt")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    losses = {row["method"]: row["mlm_loss"] for row in found["results"]}
    assert losses["tamt"] < losses["dense"]
    (ceiling,) = found["ceilings"]
    assert ceiling["steps"] == 40
    assert ceiling["learning_rate"] in (5e-2, 5e-3, 5e-4)
    assert ceiling["losses"]["mlm"] != losses["dense"]
    (told,) = [line for line in found["sentences"] if "its mask has learnt the text" in line]
    assert f"dense, trained on (rate {ceiling['learning_rate']:g})" in told
    folder = Path(found["folder"])
    table = (folder / "report.md").read_text()
    rate = f"dense, trained on (rate {ceiling['learning_rate']:g})"
    assert f"| – | {rate} | {ceiling['losses']['mlm']:.3f} |" in table
    with counted_passes() as passes:
        again = run(*words, "--model", tiny_model, "--corpus", "alike.txt")
    assert json.loads(again.out)["ceilings"] == [ceiling]
    assert not passes  # all of it is known


def test_a_trained_mask_counts_whose_loss_is_below_the_dense_models_and_not_by_chance() -> None:
    counts = np.full(16, 2)
    some, others = np.random.default_rng(0).normal(size=(2, 16)) * 0.1

    def subnetwork(method: str, mlm: float, kd: float, noise: Any = some) -> Subnetwork:
        losses = {
            name: HeldOutLoss((loss + noise) * counts, counts)
            for name, loss in (("mlm", mlm), ("kd", kd))
        }
        return Subnetwork(
            method=method, found_by=method, objective=None, sparsity=0.5, seed=1, losses=losses
        )

    dense, above = subnetwork("dense", 3.0, 0.0, some * 0), subnetwork("imp", 3.1, 0.2)
    below, by_chance = subnetwork("imp", 2.7, 0.1), subnetwork("tamt", 2.99, 0.1, others)
    untrained = subnetwork("magnitude", 2.7, 0.1)
    assert list(below_dense([dense, above, below, by_chance, untrained])) == [(below, "mlm")]
