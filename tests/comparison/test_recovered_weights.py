"""Recovered weights in a comparison: rows of their own, which no mask is ranked with."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from safetensors.torch import load_file, save_file
from small_search import small_config
from small_tasks import sst2_folder

from tamtctl.comparison.speed.api import bench
from tamtctl.comparison.speed.config import BenchConfig
from tamtctl.models.structures import neurons
from tamtctl.pruning.patterns.structured import spread
from tamtctl.pruning.recovery.api import recover
from tamtctl.pruning.recovery.config import RecoverConfig
from tamtctl.pruning.recovery.result import RecoverResult
from tamtctl.pruning.searching.api import search
from tamtctl.ticket.slicing import unsliced
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@dataclass(frozen=True)
class Made:
    """A ticket, and what was recovered of it."""

    ticket: Path
    recovered: RecoverResult


def make(model: Path, text: Path, folder: Path, **changes: Any) -> Made:
    config = small_config(model, text, **({"sparsity": 0.5} | changes))
    ticket = search(config, output_dir=folder / "found").ticket
    recovery = RecoverConfig(
        ticket=str(ticket), steps=6, batch_size=4, learning_rate=5e-3, evaluation_blocks=12,
        device="cpu",
    )  # fmt: skip
    return Made(ticket, recover(recovery, output_dir=folder / "again"))


@pytest.fixture(scope="module")
def made(tiny_model: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("neurons")
    return make(tiny_model, text_file, folder, method="magnitude", pattern="neurons")


def compared(run: Run, *names: object) -> dict[str, Any]:
    done = run(
        "compare", *names, "--blocks", "12", "--device", "cpu", "--output-dir", "out", "--json"
    )
    assert done.code == 0, done.err
    result: dict[str, Any] = json.loads(done.out)
    return result


def test_bench_knows_the_dense_model_and_the_text_that_a_recovery_names(
    made: Made, text_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text()[:4000])
    said = "(its held-out tenth); its weights were trained on the rest"
    for text, is_the_rest in ((text_file, True), (other, False)):
        found = bench(
            BenchConfig(
                folders=(str(made.recovered.model),), tasks=("kd",), corpus=(str(text),),
                blocks=12, batch_sizes=(1,), lengths=(8,), threads=(1,), rounds=3,
            )
        )  # fmt: skip
        (row,) = found.rows
        assert row.quality["kd"][1] > 0
        assert (said in found.notes[0]) is is_the_rest
        assert ("tenth" in found.notes[0]) is is_the_rest  # of another text, all is measured on


@pytest.mark.parametrize("apart", ["in the search", "in the recovery", "in neither"])
def test_weights_that_were_trained_on_what_they_are_measured_on_are_named(
    apart: str, tiny_model: Path, run: Run, text_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text()[:4000])
    texts = (other, (str(text_file),)) if apart == "in the search" else (text_file, ())
    config = small_config(tiny_model, texts[0], method="magnitude", held_out=texts[1])
    ticket = search(config, output_dir=tmp_path / "found").ticket
    recovery = RecoverConfig(
        ticket=str(ticket), steps=1, batch_size=4, evaluation_blocks=8, device="cpu",
        corpus=(str(text_file),), held_out=() if apart == "in neither" else (str(other),),
    )  # fmt: skip
    model = recover(recovery, output_dir=tmp_path / "seen").model
    done = run("compare", ticket, model, "--blocks", "8", "--device", "cpu")
    assert done.code == 0, done.err
    note = f"seen recovered was trained on text of {text_file.name}, on which it is measured"
    assert (note in done.err) == (apart != "in neither")


def test_a_row_of_its_own_with_the_losses_of_the_checkpoint(made: Made, run: Run) -> None:
    result = compared(run, made.ticket, made.recovered.run_folder)
    rows = {row["name"]: row for row in result["results"]}
    own = rows["again recovered"]
    assert own["method"] == "recovered"
    assert own["among"] == "neurons, weights recovered, kd, 6 steps"
    assert (own["sparsity"], own["steps"], own["ticket"]) == (0.5, 6, None)
    for name, loss in (("found", "ticket"), (own["name"], "recovered"), ("dense", "dense")):
        assert rows[name]["kd_loss"] == pytest.approx(made.recovered.losses[loss], abs=1e-6), name
    ranked = {one for pair in result["differences"] for one in (pair["a"], pair["b"])}
    assert "found" in ranked
    assert own["name"] not in ranked
    assert f"{own['name']} is no mask: it is the weights that found keeps" in str(
        result["sentences"]
    )
    page = Path("out/report.md").read_text()
    assert "a better mask and better weights are two things" in page
    assert "weights recovered, kd, 6 steps" in Path("out/results.csv").read_text()


def test_weights_that_were_recovered_alike_are_compared(
    made: Made, tiny_model: Path, text_file: Path, tmp_path: Path, run: Run
) -> None:
    other = make(tiny_model, text_file, tmp_path / "other", method="random", pattern="neurons")
    result = compared(run, made.ticket, other.ticket, made.recovered.model, other.recovered.model)
    pairs = [
        {one["a"], one["b"]} for one in result["differences"] if "recovered" in str(one["among"])
    ]
    assert pairs
    assert all(len(pair) == 2 and all("recovered" in name for name in pair) for pair in pairs)


def test_what_cannot_be_compared_is_one_line(
    made: Made, tiny_model: Path, text_file: Path, tmp_path: Path, run: Run
) -> None:
    def refused(code: int, said: str, *names: object) -> None:
        done = run("compare", *names, "--blocks", "12", "--device", "cpu")
        assert done.code == code, done.err
        assert said in done.err

    model = made.recovered.model
    refused(2, "give that, too", model)
    config = small_config(tiny_model, text_file, method="random", sparsity=0.5, pattern="neurons")
    stranger = search(config, output_dir=tmp_path / "stranger").ticket
    refused(2, "was recovered from a ticket 'found', which is none", stranger, model)
    spoilt = shutil.copytree(model, tmp_path / "spoilt")
    (spoilt / "recovery.json").write_text("{}")
    refused(1, "does not say how it was recovered", made.ticket, spoilt)
    shutil.copy(model / "recovery.json", spoilt)
    weights = load_file(spoilt / "model.safetensors")
    first = next(name for name in weights if name.endswith("intermediate.dense.weight"))
    wider = {first: torch.cat([weights[first], weights[first][:1]])}
    save_file(weights | wider, spoilt / "model.safetensors", metadata={"format": "pt"})
    done = run("compare", made.ticket, spoilt, "--blocks", "12", "--device", "cpu")
    assert done.code == 1
    assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["unstructured", "heads", "neurons"])
def test_recovered_weights_are_fine_tuned_on_tasks(
    pattern: str, tiny_model: Path, text_file: Path, tmp_path: Path, run: Run
) -> None:
    """From what was recovered, and with its zeros."""
    given = make(tiny_model, text_file, tmp_path / "made", method="magnitude", pattern=pattern)
    tasks = ["--tasks", "sst2", "--data-dir", sst2_folder(tmp_path / "SST-2"), "--task-epochs", "1"]
    done = run(
        "compare", given.ticket, given.recovered.run_folder, *tasks, "--task-learning-rate", "1e-2",
        "--blocks", "12", "--device", "cpu", "--output-dir", "out", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert all(0 <= row["sst2_accuracy"] <= 1 for row in result["results"])
    own = next(row for row in result["results"] if row["method"] == "recovered")
    ranked = {
        one[side] for one in result["differences"] if one["measure"] == "sst2" for side in "ab"
    }
    assert "found" in ranked
    assert own["name"] not in ranked
    configs = {path: json.loads(path.read_text()) for path in Path("runs").glob("*/config.json")}
    (made_of,) = (
        path.parent for path, one in configs.items() if one["model"] == str(given.recovered.model)
    )
    (checkpoint,) = made_of.rglob("model.safetensors")
    tuned, before = load_file(checkpoint), load_file(given.recovered.model / "model.safetensors")
    ticket = Ticket.load(given.ticket)
    for name in ticket.parameters:
        (key,) = (one for one in tuned if one.endswith(name))
        (old,) = (one for one in before if one.endswith(name))
        assert tuned[key].shape == before[old].shape
        assert not torch.equal(tuned[key], before[old])
        if pattern != "neurons":
            assert not tuned[key][~ticket.mask(name)].any()


@pytest.mark.parametrize("halves", [1, 2])
def test_a_sliced_model_is_put_back_into_its_place(halves: int) -> None:
    shapes = {"layer.0.in.weight": (halves * 6, 4), "layer.0.out.weight": (4, 6)}
    kept = torch.tensor([True, False, True, True, False, False])
    masks = {one.matrix: spread(one, kept) for slices in neurons(shapes).values() for one in slices}
    whole = {name: torch.rand(shape) * masks[name] for name, shape in shapes.items()}
    bias = torch.rand(halves * 6) * kept.repeat(halves)
    rows = kept.repeat(halves)
    sliced = {
        "layer.0.in.weight": whole["layer.0.in.weight"][rows],
        "layer.0.in.bias": bias[rows],
        "layer.0.out.weight": whole["layer.0.out.weight"][:, kept],
        "norm.weight": torch.ones(4),
    }
    found = unsliced(sliced, masks)
    expected = {**whole, "layer.0.in.bias": bias, "norm.weight": torch.ones(4)}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], one) for name, one in expected.items())
