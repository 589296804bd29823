"""A ticket below the dense model stands beside the dense model that was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from passes import counted_passes
from small_search import RECIPE

from tamtctl.comparison.ceiling import below_dense
from tamtctl.comparison.subnetworks import Subnetwork
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss

pytestmark = pytest.mark.usefixtures("working_folder", "blank_figures")


def test_a_ticket_that_has_learnt_the_text_has_its_ceiling(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    words = "compare --sparsity 0.5 --methods tamt-mlm,magnitude --blocks 32 --json".split()
    words += ["--recipe", "tiny.toml", "--prune-every", "10", "--device", "cpu"]
    done = run(*words, "--model", tiny_model, "--corpus", text_file)
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
        again = run(*words, "--model", tiny_model, "--corpus", text_file)
    assert json.loads(again.out)["ceilings"] == [ceiling]
    assert not passes  # all of it is known


def test_only_a_loss_that_can_be_below_the_dense_models_counts() -> None:
    def subnetwork(method: str, mlm: float, kd: float) -> Subnetwork:
        counts = np.array([2, 2])
        losses = {
            name: HeldOutLoss(np.array([loss, loss]) * 2, counts)
            for name, loss in (("mlm", mlm), ("kd", kd))
        }
        return Subnetwork(
            method=method, found_by=method, objective=None, sparsity=0.5, seed=1, losses=losses
        )

    dense, above, below = (
        subnetwork("dense", 3.0, 0.0), subnetwork("imp", 3.1, 0.2), subnetwork("imp", 2.9, 0.1)
    )  # fmt: skip
    assert list(below_dense([dense, above, below])) == [(below, "mlm")]
