"""One search, many sparsities: its scores give a ticket at any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_line import Run
from safetensors.torch import load_file, save_file

from tamtctl.models.loading import load_encoder
from tamtctl.ticket.hub.card import card
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture
def search(tiny_model: Path, text_file: Path) -> list[object]:
    words = "search --sparsity 0.7 --steps 8 --batch-size 4 --sequence-length 16 --json"
    options = "--learning-rate 5e-3 --device cpu --output-dir kept"
    return [*words.split(), *options.split(), "--model", tiny_model, "--corpus", text_file]


def test_a_ticket_derived_from_scores_keeps_the_largest(
    run: Run, search: list[object], tiny_model: Path
) -> None:
    assert run(*search, "--keep-scores", "--word-floor", 0).code == 0
    scores = load_file("kept/scores.safetensors")
    weights = load_encoder(str(tiny_model), with_head=False).weights
    for sparsity in (0.4, 0.7, 0.9):
        options = ["--sparsity", sparsity, "--device", "cpu", "--json"]
        done = run("search", "--from-scores", "kept", *options)
        assert done.code == 0, done.err
        result = json.loads(done.out)
        assert (result["steps"], result["target_sparsity"]) == (0, sparsity)
        ticket = Ticket.load(result["ticket"])
        assert ticket.mlm_head is None  # the head that was trained along was for another mask
        for name, table in scores.items():
            mask = ticket.mask(name)
            assert int(mask.sum()) == ticket.parameters[name].kept
            assert table[mask].min() >= table[~mask].max()
            tied = table == table[mask].min()
            sizes = weights[name].abs()
            if (tied & mask).any() and (tied & ~mask).any():
                assert sizes[tied & mask].min() >= sizes[tied & ~mask].max()
        whence = "scores of a mask training at another sparsity"
        assert whence in (done.err if sparsity == 0.4 else whence)  # the plan is shown once
        assert whence in card(ticket)
        assert "without training" not in card(ticket)
        assert f"from the {whence}" in run("inspect", result["ticket"]).out
    own = Ticket.load("kept/ticket")
    same = Ticket.load(next(Path("runs").glob("search-tiny-bert-0.7-*")) / "ticket")
    assert all(torch.equal(own.mask(name), same.mask(name)) for name in own.parameters)


def test_scores_of_other_weights_are_refused(
    run: Run, search: list[object], tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, "m")
    search[search.index(tiny_model)] = "m"
    assert run(*search, "--keep-scores").code == 0
    weights = load_file("m/model.safetensors")
    weights["bert.encoder.layer.0.attention.self.query.weight"] += 0.1
    save_file(weights, "m/model.safetensors", {"format": "pt"})
    done = run("search", "--from-scores", "kept", "--sparsity", 0.5, "--device", "cpu")
    assert done.code == 1
    assert "attention.self.query.weight" in done.err
    assert "the scores of 'kept' are for other weights" in done.err
    assert not Path("runs").exists()


def test_scores_that_were_not_kept_are_missed(run: Run, search: list[object]) -> None:
    assert run(*search).code == 0
    for words, message in (
        (["--from-scores", "kept"], "--sparsity is needed"),
        (["--from-scores", "kept", "--sparsity", 0.5], "has no scores that can be read"),
        (["--from-scores", "kept", "--sparsity", 0.5, "--steps", 3], "leave out --steps"),
        (["--from-scores", "nowhere", "--sparsity", 0.5], "not the folder of a search"),
    ):
        done = run("search", *words)
        assert done.code in (1, 2)
        assert message in done.err
        assert not Path("runs").exists()
    again = run(*search, "--keep-scores")
    assert (again.code, "without keeping its scores" in again.err) == (1, True)
    assert run(*search, "--keep-scores", "--force").code == 0
    assert Path("kept/scores.safetensors").is_file()
    refused = run("search", "--sparsity", 0.5, "--method", "imp", "--keep-scores")
    assert (refused.code, "imp trains no scores" in refused.err) == (2, True)
