"""``tamtctl inspect``: one screen that says what a ticket is, and what it is worth."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from command_line import Run
from rich.console import Console
from samples import ticket_for
from small_tickets import small_ticket, ticket_of

from tamtctl.cli.console import Output
from tamtctl.cli.views.inspection import show_inspection
from tamtctl.cli.views.similarity import show_comparison
from tamtctl.ticket.inspection import compare_masks, inspect_ticket
from tamtctl.ticket.mask_shares import Uniform, layers, types

pytestmark = pytest.mark.usefixtures("working_folder")


def on_screen(width: int) -> tuple[Output, io.StringIO]:
    """Return an output to a terminal of this width, and what it will have shown."""
    output, shown = Output(), io.StringIO()
    output.console = Console(file=shown, width=width, force_terminal=True, color_system=None)
    output.is_wrapped, output.notes = True, output
    return output, shown


def test_a_packaged_ticket_fits_on_one_screen() -> None:
    output, shown = on_screen(80)
    show_inspection(output, inspect_ticket("nano-0.7"), name="nano-0.7")
    text = shown.getvalue()
    lines = text.splitlines()
    assert len(lines) <= 48
    assert all(len(line) <= 80 for line in lines[1:])  # the first is a path, which may be longer
    for expected in (
        "nats per masked token", "python-docs", "wikipedia.txt.xz", "± s.e.", "intact",
        "embeddings 0.7, layers 0.7", "Flipped 12.8%", "layer 3", "output.dense",
        "The ticket closes 93% of the gap", "nothing smaller or faster",
        "tamtctl compare nano-0.7", "tamtctl export nano-0.7 --output-dir exported",
    ):  # fmt: skip
        assert expected in " ".join(text.split()) or expected in text, expected
    assert text.count("encoder.layer") == 2  # the densest and the sparsest matrix


def test_full_shows_every_matrix_and_every_check(run: Run) -> None:
    done = run("inspect", "nano-0.7", "--full")
    assert done.code == 0
    for layer in range(4):
        assert f"encoder.layer.{layer}.output.dense.weight" in done.out
    assert "128×512" in done.out
    assert "kept counts: 550,503 of 1,835,008 weights, as stated for each" in done.out


def test_exceptions_are_listed(run: Run) -> None:
    masks = {f"encoder.layer.{n}.a.weight": torch.arange(100) >= 50 for n in range(9)}
    masks["encoder.layer.4.a.weight"] = torch.arange(100) >= 90
    ticket = ticket_of(masks)
    found = Uniform.of(ticket)
    assert found
    assert (found.sparsity, dict(found.exceptions)) == (0.5, {"encoder.layer.4.a.weight": 0.9})
    ticket.save_pretrained("t")
    shown = run("inspect", "t").out
    assert "8 of 9 matrices at 0.5, but:" in shown
    assert "0.9000  encoder.layer.4.a.weight" in shown
    assert "not known here: the copy of nano here has no encoder.layer.0.a.weight" in shown


def test_a_free_allocation_shows_the_sparsity_of_each_part(run: Run) -> None:
    masks = {f"encoder.layer.{n}.a.weight": torch.arange(100) >= 10 * n for n in range(9)}
    ticket_of(masks).save_pretrained("t")
    assert Uniform.of(ticket_of(masks)) is None
    shown = run("inspect", "t").out
    assert "from 0 in encoder.layer.0.a.weight to 0.8 in encoder.layer.8.a.weight" in shown
    assert "layer 7    0.7000" in shown


def test_many_layers_are_folded() -> None:
    names = [f"layers.{n}.{kind}.weight" for n in range(30) for kind in ("a", "b")]
    parts = layers(["embeddings.word.weight", *names], 12)
    assert [part.label for part in parts[:3]] == ["embeddings", "layers 0–2", "layers 3–5"]
    assert len(parts) == 11
    assert sorted(n for part in parts for n in part.names) == sorted([*names, parts[0].names[0]])
    assert [part.label for part in types(names)] == ["a", "b"]


def test_a_ticket_without_measurements_claims_nothing(run: Run, tiny_model: Path) -> None:
    ticket_for(tiny_model, Path("t"))
    shown = run("inspect", "t").out
    assert "none was measured" in shown
    assert "closes" not in shown
    found = json.loads(run("inspect", "t", "--json").out)
    assert found["flips"]["share"] == pytest.approx(0.5, abs=0.05)
    assert found["flips"]["by_chance"] == pytest.approx(0.5, abs=0.01)
    assert found["flips"]["layers"].keys() == {"-", "0", "1"}


def test_every_pair_is_shown(run: Run) -> None:
    output, shown = on_screen(80)
    show_comparison(output, compare_masks(["nano-0.5", "nano-0.7", "nano-0.8", "nano-0.9"]))
    text = shown.getvalue()
    for a in range(1, 5):
        for b in range(a + 1, 5):
            assert f"{a} and {b} " in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert len(text.splitlines()) <= 64
    for expected in ("Jaccard", "by chance", "kept alike", "flipped alike", "Sparsity by layer"):
        assert expected in text
    found = json.loads(run("inspect", "nano-0.5", "nano-0.7", "--json").out)
    (pair,) = found["similarities"]
    assert 0 < pair["flips"]["chance"] < pair["flips"]["jaccard"] < 1


def test_what_is_not_known_of_several_is_said(run: Run) -> None:
    for name in ("a", "b"):
        small_ticket(method=name).save_pretrained(name)
    shown = run("inspect", "a", "b").out
    assert "flips not known here" in shown
    assert "The flips of 2 are not known here: the copy of nano here has" in shown
    assert "flipped alike" not in shown


@pytest.mark.renders
def test_the_figure_draws_every_pair_and_the_flips(run: Run) -> None:
    done = run("inspect", "nano-0.5", "nano-0.7", "nano-0.8", "--figure", "map.svg")
    assert done.code == 0, done.err
    assert Path("map.svg").read_text().count("<!-- layer -->") == 3 + 3 + 3
