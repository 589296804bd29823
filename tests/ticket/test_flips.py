"""Flips: where a ticket's masks differ from the magnitude masks, and what they have in common."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from masks import magnitude_masks, random_masks
from safetensors.torch import load_file, save_file

from tamtctl.foundations.masks import pack
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.flips import flips_of, shared_flips
from tamtctl.ticket.ticket import Ticket


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that may be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def ticket_of(model: Path, sparsity: float, seed: int | None = None) -> Ticket:
    weights = load_encoder(str(model), with_head=False).weights
    masks = (
        magnitude_masks(weights, sparsity)
        if seed is None
        else random_masks(weights, sparsity, seed)
    )
    return Ticket.create(
        weights, masks, base_model_id=str(model), revision=None, model_type="bert",
        target_sparsity=sparsity, method="random", objective=None, search={}, metrics={},
    )  # fmt: skip


def test_flips_are_counted_by_layer_and_type(model: Path) -> None:
    ticket = ticket_of(model, 0.5, seed=1)
    weights = load_encoder(str(model), with_head=False).weights
    magnitude = magnitude_masks(weights, 0.5)
    differing = {name: int((magnitude[name] ^ ticket.mask(name)).sum()) for name in weights}
    found = flips_of(ticket)
    assert found.counts == differing
    assert found.share == sum(differing.values()) / ticket.total
    of_layer = [name for name in weights if ".layer.1." in name]
    total = sum(weights[name].numel() for name in of_layer)
    assert found.layers["1"] == pytest.approx(sum(differing[n] for n in of_layer) / total)
    assert found.chance == pytest.approx(0.5, abs=0.01)
    assert found.share == pytest.approx(found.chance, abs=0.05)


def test_a_ticket_stored_as_the_difference_knows_its_flips(model: Path) -> None:
    ticket = ticket_of(model, 0.5)
    weights = load_encoder(str(model), with_head=False).weights
    masks = {name: mask.clone() for name, mask in ticket.masks.items()}
    for mask in masks.values():  # one weight for another
        flat = mask.view(-1)
        kept, pruned = int(flat.nonzero()[0]), int((~flat).nonzero()[0])
        flat[kept], flat[pruned] = False, True
    moved = replace(ticket, stored={name: pack(mask.numpy()) for name, mask in masks.items()})
    delta = moved.encode("delta", weights)
    assert delta.encoding == "delta"
    shutil.rmtree(model)
    assert set(flips_of(delta).counts.values()) == {2}
    assert "not on this machine" in str(flips_of(moved).unknown)


def test_a_magnitude_mask_has_no_flips(model: Path) -> None:
    found = flips_of(ticket_of(model, 0.7))
    assert found.share == 0
    assert found.unknown is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_checkpoints_of_other_precisions(model: Path, dtype: torch.dtype) -> None:
    file = model / "model.safetensors"
    tensors = {
        name: tensor.to(torch.bfloat16).to(dtype) for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})
    found = flips_of(ticket_of(model, 0.7))
    if dtype is torch.bfloat16:  # which numpy does not have
        assert found.unknown is not None
    else:
        assert found.share == 0


def test_weights_of_another_model_are_not_taken(model: Path) -> None:
    ticket = ticket_of(model, 0.7)
    file = model / "model.safetensors"
    tensors = load_file(file)
    (name,) = (name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    save_file(tensors | {name: tensors[name] + 1}, file, metadata={"format": "pt"})
    assert "other weights" in str(flips_of(ticket).unknown)
    assert not shared_flips([ticket, ticket])
    file.write_bytes(b"nothing")
    assert "cannot be read" in str(flips_of(ticket).unknown)
    file.unlink()
    assert "no safetensors" in str(flips_of(ticket).unknown)


def test_shared_flips_of_every_two(model: Path) -> None:
    tickets = [ticket_of(model, sparsity, seed) for sparsity, seed in
               ((0.5, 1), (0.5, 2), (0.7, 3))]  # fmt: skip
    weights = load_encoder(str(model), with_head=False).weights
    found = shared_flips(tickets)
    assert found.keys() == {(0, 1), (0, 2), (1, 2)}
    shares = []
    for name in weights:
        a, b = (t.mask(name) ^ magnitude_masks(weights, t.target_sparsity)[name]
                for t in (tickets[0], tickets[2]))  # fmt: skip
        shares.append(((a & b).sum() / (a | b).sum()).item())
    assert found[0, 2].jaccard == pytest.approx(np.mean(shares))
    same = shared_flips([tickets[0], tickets[0]])[0, 1]
    assert same.jaccard == 1
    assert same.chance == pytest.approx(1 / 3, abs=0.02)  # half of the weights, and half
