"""What a ticket says of its pattern: written only if there is one, verified by whoever reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import patterns
import pytest
import safetensors.numpy
import tiny
from command_line import Run
from small_tickets import list_again, make_ticket, rewrite_json, small_ticket
from torch import Tensor

from tamtctl.foundations.errors import TicketError
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.fewer_heads import without_idle_heads
from tamtctl.pruning.one_shot import keep_counts, reference_masks
from tamtctl.ticket.hub.card import card
from tamtctl.ticket.inspection import inspect_ticket
from tamtctl.ticket.parameter_counts import ParameterCounts
from tamtctl.ticket.slicing import slice_neurons
from tamtctl.ticket.ticket import Ticket


def weights_of(family: str = "bert") -> dict[str, Tensor]:
    matrices = maskable_matrices(tiny.build(family, with_head=False))
    return {n: p.detach() for n, p in matrices.items() if "word" not in n and "tok_" not in n}


def ticket_of(weights: dict[str, Tensor], pattern: str, **changes: Any) -> Ticket:
    counts = keep_counts(weights, 0.5, pattern)
    chosen = {name: weights[name] for name in counts}
    masks = reference_masks(chosen, counts, pattern)
    values: dict[str, Any] = {"target_sparsity": 0.5, "method": "magnitude", "objective": None}
    return make_ticket(chosen, masks, pattern=pattern, **values | changes)


def claim(folder: Path, **changes: Any) -> None:
    rewrite_json(folder, lambda told: told.update(changes))


def test_a_ticket_of_any_weights_says_nothing_of_patterns(tmp_path: Path) -> None:
    small_ticket().save_pretrained(tmp_path / "ticket")
    assert "pattern" not in json.loads((tmp_path / "ticket" / "ticket.json").read_text())
    loaded = Ticket.load(tmp_path / "ticket")
    assert loaded.pattern == "unstructured"
    assert "pattern" not in loaded.describe()
    assert all(check.name != "pattern" for check in Ticket.verify(tmp_path / "ticket"))


@pytest.mark.parametrize("encoding", ["bits", "zstd", "delta"])
@pytest.mark.parametrize("pattern", ["2:4", "block:4x4", "neurons", "heads:2"])
def test_a_pattern_is_verified_from_the_bits(pattern: str, encoding: str, tmp_path: Path) -> None:
    weights = weights_of()
    ticket = ticket_of(weights, pattern)
    ticket.encode(encoding, weights).save_pretrained(tmp_path / "ticket")
    loaded = Ticket.load(tmp_path / "ticket")
    assert loaded.pattern == loaded.describe()["pattern"] == pattern
    back = loaded.decode(weights)
    assert patterns.is_of(pattern, {n: m.numpy() for n, m in back.masks.items()}, 0.5)
    if encoding == "bits":
        assert Ticket.verify(tmp_path / "ticket")[-1].name == "pattern"
        _move_a_bit(tmp_path / "ticket")
        with pytest.raises(TicketError, match=f"mask of .* is not {pattern}: it keeps"):
            Ticket.load(tmp_path / "ticket")
        assert Ticket.verify(tmp_path / "ticket")[-1].passed is False


def _move_a_bit(folder: Path) -> None:
    """Keep another weight instead of one, so that the counts are right and the pattern is not."""
    masks = safetensors.numpy.load((folder / "mask.safetensors").read_bytes())
    name = sorted(masks)[0]
    bits = np.unpackbits(masks[name], bitorder="little")
    bits[np.flatnonzero(bits)[0]], bits[np.flatnonzero(1 - bits)[-1]] = 0, 1
    masks[name] = np.packbits(bits, bitorder="little")
    (folder / "mask.safetensors").write_bytes(safetensors.numpy.save(masks))
    list_again(folder)


def test_a_claim_that_is_not_true_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "ticket"
    small_ticket().save_pretrained(folder)
    for pattern, said in {
        "2:4": "is not 2:4",
        "block:2x2": "is not made of blocks of 2 x 2",
        "neurons": "layer.0 are no single feed-forward network",
        "heads:2": "no layer has a self-attention",
        "2:4\x1b[2J": "pattern",
        "x" * 41: "is no name of a pattern",
        "N:M": "is no name of a pattern",
    }.items():
        claim(folder, pattern=pattern)
        with pytest.raises(TicketError, match=said) as refused:
            Ticket.load(folder)
        assert "\x1b" not in str(refused.value)
    claim(folder, pattern=7)
    with pytest.raises(TicketError, match="pattern"):
        Ticket.load(folder)
    claim(folder, pattern="diagonal")  # of a version to come
    assert Ticket.load(folder).pattern == "diagonal"
    assert Ticket.verify(folder)[-1].passed is None


def test_as_many_neurons_in_each_layer(tmp_path: Path) -> None:
    weights = weights_of()
    masks = {n: m.clone() for n, m in ticket_of(weights, "neurons").masks.items()}
    first, second = (
        "encoder.layer.0.intermediate.dense.weight",
        "encoder.layer.0.output.dense.weight",
    )
    place = int(masks[second][0].nonzero()[0])
    masks[first][place], masks[second][:, place] = False, False  # a whole one, in one layer alone
    chosen = {name: weights[name] for name in masks}
    with pytest.raises(TicketError, match=r"layer\.1 keeps 16 of 32, and"):
        make_ticket(chosen, masks, target_sparsity=0.5, pattern="neurons")


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert", "distilbert"])
def test_parameters_are_counted_as_an_export_has_them(family: str) -> None:
    model = tiny.build(family, with_head=False)
    base = model.base_model
    weights = weights_of(family)
    ticket = ticket_of(weights, "neurons")
    shapes = {name: entry.shape for name, entry in ticket.parameters.items()}
    keep = {name: entry.kept for name, entry in ticket.parameters.items()}
    counts = ParameterCounts.of(base, shapes, keep, "neurons")
    assert counts.total == sum(p.numel() for p in base.parameters())
    assert counts.kept == counts.total - (ticket.total - ticket.kept)
    slice_neurons(model, ticket.masks)
    assert counts.exported == sum(p.numel() for p in base.parameters())
    assert ParameterCounts.of(base, {}, {}, "2:4").layers < counts.total
    told = ticket_of(weights, "neurons", metrics=counts.to_metrics())
    assert ParameterCounts.told_by(told) == counts
    for odd in ({"total": -1}, {"total": True}, {"total": "9"}, 7):
        values = counts.to_metrics()["parameters"]
        metrics = {"parameters": values | odd if isinstance(odd, dict) else odd}
        assert ParameterCounts.told_by(ticket_of(weights, "neurons", metrics=metrics)) is None


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert", "distilbert"])
def test_parameters_are_counted_as_a_graph_has_them(family: str) -> None:
    model = tiny.build(family, with_head=False)
    ticket = ticket_of(weights_of(family), "heads:2")
    shapes = {name: entry.shape for name, entry in ticket.parameters.items()}
    keep = {name: entry.kept for name, entry in ticket.parameters.items()}
    counts = ParameterCounts.of(model.base_model, shapes, keep, "heads:2")
    assert counts.exported == counts.total
    ticket.apply(model)
    fewer = without_idle_heads(model)
    assert fewer is not None
    assert counts.graph == sum(p.numel() for p in fewer.network.parameters())
    told = ticket_of(weights_of(family), "heads:2", metrics=counts.to_metrics())
    assert ParameterCounts.told_by(told) == counts
    assert f"and one to ONNX {counts.graph:,}" in str(counts)
    assert "`tamtctl export --format onnx` writes is without" in " ".join(card(told).split())


@pytest.mark.usefixtures("working_folder")
def test_who_looks_at_a_ticket_is_told(run: Run) -> None:
    counts = ParameterCounts(total=1000, layers=800, kept=700, exported=690)
    ticket = ticket_of(weights_of(), "neurons", metrics=counts.to_metrics())
    ticket.save_pretrained("runs/one/ticket")
    small_ticket().save_pretrained("runs/other/ticket")
    line = "1,000 parameters, 800 of them in layers; 700 are not pruned, and an export has 690"
    shown = run("inspect", "runs/one/ticket")
    assert shown.code == 0, shown.err
    assert "neurons" in shown.out
    assert line in " ".join(shown.out.split())
    told = inspect_ticket("runs/one/ticket").to_dict()["ticket"]
    assert told["pattern"] == "neurons"
    listed = json.loads(run("list", "--json").out)["tickets"]
    assert {one["name"]: one.get("pattern") for one in listed if one["kind"] == "run"} == {
        "runs/one/ticket": "neurons",
        "runs/other/ticket": None,
    }
    assert "magnitude, neurons" in run("list").out
    text = " ".join(card(ticket).split())
    assert "Its pattern is `neurons`" in text
    assert line in text
    assert "without the pruned neurons" in text
    assert "Its pattern" not in card(small_ticket())
