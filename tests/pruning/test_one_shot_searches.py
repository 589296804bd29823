"""Every criterion on the command line: searched for, started from, compared, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from command_line import Run
from small_search import RECIPE

from tamtctl.models.loading import load_encoder
from tamtctl.pruning.criteria import CRITERIA, find_criterion
from tamtctl.pruning.one_shot import keep_counts
from tamtctl.ticket.ticket import Ticket

COMBINED = "obs*fisher-kd"
LAYER = "encoder.layer.0.attention.self.query.weight"
TABLE = "embeddings.word_embeddings.weight"


@pytest.fixture
def at(tiny_model: Path, text_file: Path, working_folder: None) -> list[object]:
    Path("tiny.toml").write_text(RECIPE)
    return [
        "--model",
        tiny_model,
        "--corpus",
        text_file,
        "--device",
        "cpu",
        "--recipe",
        "tiny.toml",
    ]


@pytest.mark.parametrize("name", [*CRITERIA, COMBINED])
def test_a_search_for_every_criterion(
    name: str, at: list[object], tiny_model: Path, run: Run
) -> None:
    done = run("search", "--sparsity", 0.6, "--method", name, "--json", *at)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    ticket = Ticket.load(Path(found["ticket"]))
    metadata = json.loads((Path(found["ticket"]) / "ticket.json").read_text())
    assert metadata["method"] == name
    assert "*" not in found["ticket"]
    weights = load_encoder(str(tiny_model), with_head=False).weights
    keep = keep_counts(weights, 0.6)
    assert {n: int(ticket.mask(n).sum()) for n in ticket.parameters} == keep
    # The same request is the same run, and the same ticket if it is made again.
    again = run("search", "--sparsity", 0.6, "--method", name, "--json", "--force", *at)
    assert again.code == 0, again.err
    other = Ticket.load(Path(json.loads(again.out)["ticket"]))
    for matrix in ticket.parameters:
        assert torch.equal(ticket.mask(matrix), other.mask(matrix))


def test_wanda_compares_within_the_outputs_of_a_layer(at: list[object], run: Run) -> None:
    done = run("search", "--sparsity", 0.6, "--method", "wanda", "--json", *at)
    ticket = Ticket.load(Path(json.loads(done.out)["ticket"]))
    outputs, tokens = (ticket.mask(name).sum(1) for name in (LAYER, TABLE))
    assert int(outputs.max() - outputs.min()) <= 1
    assert int(tokens.max() - tokens.min()) > 1  # a frequent token keeps more than a rare one


def test_a_training_starts_from_a_combined_order(at: list[object], run: Run) -> None:
    # With two-valued scores, training starts from a mask without a floor.
    whole = ["--method", COMBINED, "--word-floor", 0]
    one_shot = run("search", "--sparsity", 0.6, *whole, "--json", *at)
    rest = ["--steps", 1, "--learning-rate", 1e-9, "--json", *at]
    trained = run("search", "--sparsity", 0.6, "--init", COMBINED, "--objective", "mlm", *rest)
    assert (one_shot.code, trained.code) == (0, 0), one_shot.err + trained.err
    assert (
        "did not change" in trained.out + trained.err or json.loads(trained.out)["changed"] is False
    )
    start, end = (Ticket.load(Path(json.loads(one.out)["ticket"])) for one in (one_shot, trained))
    assert all(torch.equal(start.mask(name), end.mask(name)) for name in start.parameters)


def test_a_second_sparsity_finds_the_statistics(
    at: list[object], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "own"))
    assert run("search", "--sparsity", 0.6, "--method", "fisher", *at).code == 0
    (file,) = (tmp_path / "own" / "statistics").iterdir()
    made = file.stat()
    assert run("search", "--sparsity", 0.7, "--method", "fisher", *at).code == 0
    assert run("search", "--sparsity", 0.6, "--method", "fisher", "--seed", 3, *at).code == 0
    (same,) = (tmp_path / "own" / "statistics").iterdir()
    assert (same.stat().st_ino, same.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    more = ["--calibration-tokens", 64]
    assert run("search", "--sparsity", 0.6, "--method", "fisher", *more, *at).code == 0
    assert len([*(tmp_path / "own" / "statistics").iterdir()]) == 2


def test_a_comparison_of_criteria(at: list[object], run: Run) -> None:
    sweep = "compare --sparsity 0.6 --blocks 16 --json --methods".split()
    done = run(*sweep, f"wanda,{COMBINED},magnitude", *at)
    assert done.code == 0, done.err
    compared = json.loads(done.out)
    rows = {row["method"]: row for row in compared["results"]}
    assert {"wanda", COMBINED, "magnitude"} <= rows.keys()
    assert rows["wanda"]["name"] == "Wanda"
    assert rows[COMBINED]["name"] == "OBS*Fisher-KD"
    assert len({rows[name]["kd_loss"] for name in ("wanda", COMBINED, "magnitude")}) == 3
    again = run(*sweep, f"wanda,{COMBINED},magnitude", *at, "--dry-run")
    assert "0 of " in again.out + again.err


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ("search --method wandi", "did you mean wanda"),
        ("search --method obs*fishr", "there is no criterion 'fishr'"),
        ("search --method obs*obs", "names one twice"),
        ("search --method obs*", "lacks a name beside the *"),
        ("search --method random --init obs", "not for --method random"),
        ("search --method obs*tamt", "there is no criterion 'tamt'"),
        ("search --init obs*fishr", "there is no criterion 'fishr'"),
        ("compare --methods obs*fishr", "there is no criterion 'fishr'"),
        ("compare --methods fishr", "did you mean fisher"),
        ("search --method wanda --calibration-tokens 0", "--calibration-tokens must be at least 1"),
    ],
)
def test_what_is_no_criterion_is_refused(
    request_: str, told: str, at: list[object], run: Run
) -> None:
    done = run(*request_.split(), "--sparsity", 0.6, *at)
    assert done.code == 2
    assert told in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_model_without_a_head(
    tmp_path: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    """What needs no head works; what needs one says so in one line."""
    model = tiny.save(tmp_path / "bare", "bert", with_head=False)
    Path("tiny.toml").write_text(RECIPE)
    at = ["--model", model, "--corpus", text_file, "--device", "cpu", "--recipe", "tiny.toml"]
    at += ["--sparsity", 0.6, "--objective", "kd"]
    for name in ("fisher-kd", "swaps"):
        done = run("search", "--method", name, *at)
        assert done.code == 0, done.err
    refused = run("search", "--method", "fisher", *at)
    assert refused.code == 1
    (line,) = [line for line in refused.err.splitlines() if not line.endswith("…")]
    assert "--method fisher needs a masked-LM head" in line


def test_rows_of_a_combined_order_know_what_their_parts_need() -> None:
    row = find_criterion("magnitude*fisher*random")
    assert (row.needs_text, row.needs_head, row.needs_noise, row.has_seeds) == (True,) * 4
    assert row.statistics == CRITERIA["fisher"].statistics
    assert row.least_seeds == CRITERIA["random"].least_seeds
    assert find_criterion("swaps*obs").needs_counts
