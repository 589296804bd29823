"""Searches for masks of every pattern, by every way to find one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import patterns
import pytest
import tiny
from command_line import Run
from numpy.typing import NDArray
from small_search import Interrupting, bits, interrupted, small_config

from tamtctl.foundations.errors import TamtctlError, UsageError
from tamtctl.pruning.derived import derived_config
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.searching.api import plan_search, search
from tamtctl.ticket.ticket import Ticket

PATTERNS = ("2:4", "block:4x4", "neurons")
WAYS: dict[str, dict[str, Any]] = {
    "magnitude": {"method": "magnitude"},
    "random": {"method": "random"},
    "wanda": {"method": "wanda"},
    "fisher": {"method": "fisher"},
    "tamt": {"steps": 8, "learning_rate": 2e-2},
    "tamt in nats": {"steps": 8, "init": "fisher", "init_scores": "nats", "learning_rate": 0.3},
    "imp": {"method": "imp", "prune_every": 2, "steps": None},
}


def sparsity_of(pattern: str) -> float:
    return find_pattern(pattern).sparsity or 0.25


def masks_of(ticket: Path) -> dict[str, NDArray[np.bool_]]:
    found = Ticket.load(ticket)
    return {name: found.mask(name).numpy() for name in found.parameters}


@pytest.mark.parametrize(
    "way", [pytest.param(n, marks=[pytest.mark.slow] * (n == "wanda")) for n in WAYS]
)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_way_finds_masks_of_the_pattern(
    pattern: str, way: str, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    sparsity = sparsity_of(pattern)
    changes = {"pattern": pattern, "sparsity": sparsity, **WAYS[way]}
    found = search(small_config(tiny_model, text_file, **changes), output_dir=tmp_path / "run")
    masks = masks_of(found.ticket)
    assert patterns.is_of(pattern, masks, sparsity)
    assert not any("word_embeddings" in name for name in masks)
    assert all("output.dense" in n or "intermediate" in n for n in masks) or pattern != "neurons"
    assert Ticket.load(found.ticket).pattern == pattern
    if way != "imp":  # of so few steps
        assert (found.flips > 0) == way.startswith("tamt")
    assert found.sparsities == {"layers": pytest.approx(sparsity)}
    assert {"random", "magnitude", "ticket"} <= found.losses.keys()
    counts = found.parameters
    assert counts is not None
    assert counts.total - counts.kept == sum(int((~mask).sum()) for mask in masks.values())
    assert (counts.exported < counts.total) == (pattern == "neurons")
    assert found.to_dict()["parameters"] == Ticket.load(found.ticket).metrics["parameters"]
    if way in found.losses:  # which is made anew, of the same pattern
        assert found.losses[way] == found.losses["ticket"]


@pytest.mark.parametrize("family", ["albert", "modernbert"])
def test_shared_layers_and_gates_have_whole_neurons(
    family: str, text_file: Path, tmp_path: Path
) -> None:
    model = tiny.save(tmp_path / "model", family)
    changes = {"pattern": "neurons", "sparsity": 0.5, "steps": 6, "learning_rate": 2e-2}
    found = search(small_config(model, text_file, **changes), output_dir=tmp_path / "run")
    masks = masks_of(found.ticket)
    assert patterns.is_of("neurons", masks, 0.5)
    assert len(masks) == (2 if family == "albert" else 4)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_goes_on_where_it_was_interrupted(
    pattern: str, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    config = small_config(
        tiny_model, text_file, pattern=pattern, sparsity=sparsity_of(pattern), steps=8,
        checkpoint_every=2, learning_rate=2e-2,
    )  # fmt: skip
    whole = search(config, output_dir=tmp_path / "whole")
    interrupted(config, tmp_path / "run", 5)
    resumed = search(config, output_dir=tmp_path / "run", watcher=Interrupting())
    assert resumed.resumed_from >= 4
    assert bits(resumed.ticket) == bits(whole.ticket)
    frugal = search(
        small_config(
            tiny_model, text_file, pattern=pattern, sparsity=sparsity_of(pattern), steps=8,
            low_memory=True, learning_rate=2e-2,
        ),
        output_dir=tmp_path / "frugal",
    )  # fmt: skip
    assert patterns.is_of(pattern, masks_of(frugal.ticket), sparsity_of(pattern))


def test_kept_scores_of_structures_give_other_sparsities(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    changes = {"pattern": "neurons", "steps": 8, "learning_rate": 2e-2, "keep_scores": True}
    config = small_config(tiny_model, text_file, sparsity=0.5, **changes)
    first = search(config, output_dir=tmp_path / "run")
    same = search(derived_config(first.run_folder, 0.5), output_dir=tmp_path / "same")
    assert all(
        np.array_equal(mask, masks_of(same.ticket)[name])
        for name, mask in masks_of(first.ticket).items()
    )
    other = search(derived_config(first.run_folder, 0.75), output_dir=tmp_path / "other")
    assert patterns.is_of("neurons", masks_of(other.ticket), 0.75)
    changed = derived_config(first.run_folder, 0.5, pattern="2:4")
    with pytest.raises(TamtctlError):
        search(changed, output_dir=tmp_path / "changed")


@pytest.mark.parametrize("pattern", ["2:4", "neurons"])
def test_a_ticket_of_the_pattern_is_a_start(
    pattern: str, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    def found(folder: str, **changes: Any) -> Path:
        values: dict[str, Any] = {"pattern": pattern, "sparsity": 0.5} | changes
        config = small_config(tiny_model, text_file, **values)
        return search(config, output_dir=tmp_path / folder).ticket

    start = found("start", method="random")
    for scores, rate in (("two-valued", 1e-9), ("nats", 1e-9)):
        to = found(f"to-{scores}", init=str(start), steps=1, init_scores=scores, learning_rate=rate)
        before, after = masks_of(start), masks_of(to)
        assert all(np.array_equal(before[name], after[name]) for name in before)
    plain = found("plain", method="magnitude", pattern="unstructured")
    with pytest.raises(
        UsageError, match=rf"--pattern {pattern} cannot start from --init .* of the"
    ):
        found("refused", init=str(plain), steps=1)


def test_a_model_that_does_not_fit_is_refused_before_any_work(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    for pattern, sparsity in (("2:5", 0.6), ("block:5x4", 0.5)):
        config = small_config(tiny_model, text_file, pattern=pattern, sparsity=sparsity)
        with pytest.raises(UsageError, match=f"--pattern {pattern} is not for this model"):
            plan_search(config, output_dir=tmp_path / "run")


def rows_of(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["results"]}


@pytest.mark.slow
@pytest.mark.usefixtures("working_folder")
def test_a_comparison_ranks_within_the_pattern(tiny_model: Path, text_file: Path, run: Run) -> None:
    at = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu"]
    at += ["--sequence-length", "16"]
    swept = run(
        *"compare --sparsity 0.5 --pattern neurons --methods magnitude,random,fisher".split(),
        "--blocks", "8", "--json", *at,
    )  # fmt: skip
    assert swept.code == 0, swept.err
    rows = rows_of(json.loads(swept.out))
    assert {"magnitude", "random seed 1", "random seed 3", "Fisher"} <= rows.keys()
    folders = {}
    for pattern in ("neurons", "2:4", "unstructured"):
        made = run(
            *f"search --method magnitude --sparsity 0.5 --pattern {pattern} --json".split(), *at
        )
        assert made.code == 0, made.err
        folders[pattern] = json.loads(made.out)["ticket"]
    given = run("compare", *folders.values(), "--blocks", "8", "--json", "--device", "cpu")
    assert given.code == 0, given.err
    told = json.loads(given.out)
    random = [row for row in told["results"] if row["method"] == "random"]
    levels = {(row["sparsity"], row["among"]) for row in random}
    assert levels == {(0.5, None), (0.5, "neurons"), (0.5, "2:4")}
    assert sum("they are not ranked with each other" in note for note in told["notes"]) == 3
    magnitude = {
        row["among"]: row["mlm_loss"] for row in told["results"]
        if row["method"] == "magnitude" and row["ticket"] is None
    }  # fmt: skip
    assert magnitude["neurons"] == pytest.approx(rows["magnitude"]["mlm_loss"], abs=1e-6)
    given_rows = {row["ticket"]: row for row in told["results"] if row["ticket"]}
    for pattern, folder in folders.items():
        row = given_rows[folder]
        assert row["mlm_loss"] == magnitude[None if pattern == "unstructured" else pattern]


def test_parameters_are_those_of_the_checkpoint_whatever_the_objective(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    """Without a head, transformers makes a random pooler that this checkpoint lacks."""
    found = [
        search(
            small_config(
                tiny_model, text_file, steps=1, objective=objective, pattern="neurons",
                init_scores="nats", sparsity=0.5,
            ),
            output_dir=tmp_path / objective,
        ).parameters
        for objective in ("mlm", "kd")
    ]  # fmt: skip
    assert found[0] == found[1] is not None
