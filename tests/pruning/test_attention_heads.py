"""Searches for masks of whole attention heads, by every kind of way, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import patterns
import pytest
import tiny
from command_line import Run
from small_search import small_config
from transformers import AutoConfig, AutoModelForMaskedLM

from tamtctl.foundations.errors import UsageError
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.searching.api import find_search, search
from tamtctl.ticket.ticket import Ticket

WAYS: dict[str, dict[str, Any]] = {
    "magnitude": {"method": "magnitude"},
    "fisher": {"method": "fisher"},
    "tamt": {"steps": 6, "learning_rate": 2e-2},
    "tamt in nats": {"steps": 6, "init": "fisher", "init_scores": "nats", "learning_rate": 0.3},
    "imp": {"method": "imp", "prune_every": 1, "steps": None},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("heads") / "model", "bert", num_attention_heads=4)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_finds_whole_heads(
    way: str, model: Path, text_file: Path, tmp_path: Path
) -> None:
    config = small_config(model, text_file, pattern="heads", sparsity=0.5, **WAYS[way])
    found = search(config, output_dir=tmp_path / "run")
    ticket = Ticket.load(found.ticket)
    masks = {name: ticket.mask(name).numpy() for name in ticket.parameters}
    assert ticket.pattern == ticket.search["pattern"] == "heads:4"
    assert patterns.is_of("heads:4", masks, 0.5)
    assert len(masks) == 8
    assert all("attention" in name for name in masks)
    counts = found.parameters
    assert counts is not None
    assert counts.graph is not None
    assert counts.graph < counts.kept < counts.exported == counts.total
    assert search(config, output_dir=tmp_path / "run").already_done


@pytest.mark.parametrize("family", ["albert", "modernbert", "mpnet", "deberta-v2"])
def test_heads_of_other_families(family: str, text_file: Path, tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model", family)
    config = small_config(model, text_file, pattern="heads", sparsity=0.5, method="magnitude")
    ticket = Ticket.load(search(config, output_dir=tmp_path / "run").ticket)
    masks = {name: ticket.mask(name).numpy() for name in ticket.parameters}
    assert patterns.is_of("heads:2", masks, 0.5)
    assert len(masks) == {"albert": 4, "modernbert": 4, "mpnet": 8, "deberta-v2": 12}[family]


@pytest.mark.usefixtures("working_folder")
def test_the_number_is_that_of_the_model(model: Path, text_file: Path) -> None:
    def config_of(pattern: str) -> Any:
        return small_config(model, text_file, pattern=pattern, sparsity=0.5, method="magnitude")

    found = search(config_of("heads"))
    again = find_search(config_of("heads:4"))
    assert again is not None
    assert again.run_folder == found.run_folder
    with pytest.raises(UsageError, match="--pattern heads:2 is not for this model, whose conf"):
        search(config_of("heads:2"))


def test_every_layer_keeps_a_head(model: Path, text_file: Path, tmp_path: Path) -> None:
    config = small_config(model, text_file, pattern="heads", sparsity=0.99, method="magnitude")
    ticket = Ticket.load(search(config, output_dir=tmp_path / "run").ticket)
    masks = {name: ticket.mask(name).numpy() for name in ticket.parameters}
    assert [np.mean(mask) for mask in masks.values()] == [0.25] * 8


@pytest.mark.parametrize("method", ["magnitude", "tamt"])
def test_heads_of_all_layers_compete_where_an_allocation_shares_them_out(
    method: str, model: Path, text_file: Path, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"pattern": "heads", "sparsity": 0.5, "allocation": "global"}
    values |= {"method": method, "budget_criterion": "magnitude", "learning_rate": 1e-9, "steps": 1}
    weights = load_encoder(str(model), with_head=False).weights
    first = "encoder.layer.0.attention.output.dense.weight"
    config = small_config(model, text_file, **values)
    ticket = Ticket.load(search(config, output_dir=tmp_path / "run").ticket)
    sums = {
        (group, number): sum(float(weights[name][r, c].abs()) for name, r, c in unit)
        for group, units in enumerate(
            patterns.units("heads:4", {n: tuple(weights[n].shape) for n in ticket.parameters})
        )
        for number, unit in enumerate(units)
    }
    kept = sorted(sums, key=lambda place: -sums[place])[:4]
    heads = ticket.mask(first).view(16, 4, 4)[0, :, 0]
    assert heads.tolist() == [(0, number) in kept for number in range(4)]
    assert ticket.sparsity == 0.5


def test_an_allocation_leaves_every_layer_a_head(
    model: Path, text_file: Path, tmp_path: Path
) -> None:
    def config_of(sparsity: float) -> Any:
        return small_config(
            model, text_file, pattern="heads", sparsity=sparsity, method="magnitude",
            allocation="global", floor=0.0,
        )  # fmt: skip

    ticket = Ticket.load(search(config_of(0.75), output_dir=tmp_path / "run").ticket)
    masks = {name: ticket.mask(name).numpy() for name in ticket.parameters}
    assert [np.mean(mask) for mask in masks.values()] == [0.25] * 8
    with pytest.raises(UsageError, match=r"each of the 2 layers keeps at least one: .* is 0\.75"):
        search(config_of(0.9), output_dir=tmp_path / "none")


@pytest.mark.usefixtures("working_folder")
def test_attention_of_another_layout_is_refused_before_any_work(text_file: Path, run: Run) -> None:
    """The first DeBERTa stacks queries, keys and values head by head."""
    config = AutoConfig.for_model("deberta", **tiny.FAMILIES["bert"])
    AutoModelForMaskedLM.from_config(config).save_pretrained("model")
    tiny.tokenizer().save_pretrained("model")
    at = ["--model", "model", "--corpus", text_file, "--device", "cpu", "--sparsity", "0.5"]
    at += ["--sequence-length", "16"]
    done = run("search", *at, "--pattern", "heads", "--method", "magnitude")
    assert done.code == 2, done.err
    assert "--pattern heads:2 is not for this model: the attention matrices of" in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("working_folder")
def test_the_sparsity_that_is_shown_is_that_of_the_mask(
    model: Path, text_file: Path, run: Run
) -> None:
    of = ["--model", model, "--corpus", text_file, "--sequence-length", "16", "--device", "cpu"]
    heads = "--method magnitude --pattern heads --sparsity 0.6".split()
    plan = run("search", *heads, *of, "--output-dir", "found heads")
    assert "sparsity 0.5 in each (0.6 was asked for)" in plan.err
    assert "tamtctl inspect 'found heads/ticket'" in plan.err
    given = json.loads(run("compare", "found heads/ticket", "--blocks", "8", "--json").out)
    assert {row["sparsity"] for row in given["results"]} == {0.0, 0.5}
    sweep = run("compare", *heads[2:], "--methods", "magnitude", "--blocks", "8", *of, "--json")
    assert "at 0.6 the masks have a sparsity of 0.5, as heads:4 are kept whole" in sweep.err


@pytest.mark.usefixtures("working_folder")
def test_a_comparison_has_baselines_of_heads(model: Path, text_file: Path, run: Run) -> None:
    done = run(
        *"compare --sparsity 0.5 --pattern heads --methods magnitude,random,fisher".split(),
        *"--blocks 8 --sequence-length 16 --device cpu --json".split(),
        "--model", model, "--corpus", text_file,
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(done.out)["results"]}
    assert {"magnitude", "random seed 1", "random seed 3", "Fisher"} <= rows.keys()
    uniform, *_ = (
        path.parent / "ticket"
        for path in Path("runs").glob("search-*fisher*/config.json")
        if "allocation" not in json.loads(path.read_text())
    )
    given = run("compare", uniform, "--blocks", "8", "--json", "--device", "cpu")
    assert given.code == 0, given.err
    told = {row["name"]: row for row in json.loads(given.out)["results"]}
    assert told["magnitude"]["among"] == "heads:4"
    assert told["magnitude"]["mlm_loss"] == pytest.approx(rows["magnitude"]["mlm_loss"], abs=1e-6)


def test_a_sparsity_that_prunes_no_head_is_refused(model: Path, text_file: Path) -> None:
    config = small_config(model, text_file, pattern="heads", sparsity=0.1, method="magnitude")
    with pytest.raises(UsageError, match=r"--sparsity 0\.1 rounds to nothing of model .* give a"):
        search(config)
    assert not Path("runs").exists()
