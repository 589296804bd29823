"""Small tickets, intact ones and ones to spoil."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from masks import magnitude_masks
from torch import Tensor

from tamtctl.models.loading import load_encoder
from tamtctl.pruning.one_shot import keep_counts, reference_masks
from tamtctl.ticket.ticket import Ticket


def random_masks(weights: Mapping[str, Tensor], density: float = 0.3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {n: torch.rand(w.shape, generator=generator) < density for n, w in weights.items()}


def make_ticket(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None, **changes: Any
) -> Ticket:
    values: dict[str, Any] = {
        "base_model_id": "nano",
        "revision": None,
        "model_type": "bert",
        "target_sparsity": 0.7,
        "method": "tamt",
        "objective": "mlm",
        "search": {"seed": 1, "corpus": ["python-docs"], "max_minutes": None},
        "metrics": {"losses": {"dense": 2.5, "ticket": 2.75}},
    }
    masks = random_masks(weights) if masks is None else masks
    return Ticket.create(weights, masks, **values | changes)


def magnitude_ticket(model: Path, pattern: str, encoding: str = "bits") -> Path:
    """Save the ticket of a model that keeps half of the units of a pattern, by their magnitude."""
    encoder = load_encoder(str(model), with_head=False)
    counts = keep_counts(encoder.weights, 0.5, pattern, encoder.embeddings)
    weights = {name: encoder.weights[name] for name in counts}
    ticket = make_ticket(
        weights,
        reference_masks(weights, counts, pattern),
        base_model_id=str(model),
        model_type=encoder.model.config.model_type,
        target_sparsity=0.5,
        pattern=pattern,
    )
    ticket.encode(encoding, weights).save_pretrained("ticket")
    return Path("ticket")


def small_ticket(**changes: Any) -> Ticket:
    generator = torch.Generator().manual_seed(1)
    shapes = {"embeddings.weight": (7, 5), "layer.0.weight": (3, 4), "pooler.dense.weight": (4, 4)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return make_ticket(weights, **changes)


def rewrite_json(folder: Path, change: Any) -> None:
    path = folder / "ticket.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def list_again(folder: Path, name: str = "mask.safetensors") -> None:
    """Make the listed size and checksum of a file match, so that the deeper checks are reached."""
    content = (folder / name).read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite_json(folder, lambda document: document["files"].update({name: entry}))


def trained_mask(weight: Tensor, sparsity: float, differing: float, seed: int = 0) -> Tensor:
    """Return a mask that differs from the magnitude mask as a trained one does."""
    generator = torch.Generator().manual_seed(seed)
    mask = magnitude_masks({"w": weight}, sparsity)["w"]
    flat = mask.view(-1)
    count = int(flat.numel() * differing / 2)
    for side in (flat.nonzero().squeeze(1), (~flat).nonzero().squeeze(1)):
        flipped = side[torch.randperm(len(side), generator=generator)[:count]]
        flat[flipped] = ~flat[flipped]
    return mask


def ticket_of(masks: dict[str, Tensor], seed: int = 0) -> Ticket:
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(mask.shape, generator=generator) for name, mask in masks.items()}
    return Ticket.create(
        weights, masks, base_model_id="nano", revision=None, model_type="bert", method="random",
        target_sparsity=0.5, objective=None, search={}, metrics={},
    )  # fmt: skip
