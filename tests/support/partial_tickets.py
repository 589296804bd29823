"""Tickets that mask only some of an encoder's matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from masks import magnitude_masks

from tamtctl.models.loading import load_encoder
from tamtctl.ticket.ticket import Ticket

COVERED: dict[str, Callable[[str], bool]] = {
    "linear": lambda name: name.startswith("encoder."),
    "attention": lambda name: ".attention." in name,
    "embeddings": lambda name: name.startswith("embeddings."),
}


def partial(model: Path, kind: str, to: str, encoding: str = "bits", sparsity: float = 0.5) -> str:
    """Save the magnitude mask of some matrices as a ticket."""
    encoder = load_encoder(str(model), with_head=False)
    weights = {name: w for name, w in encoder.weights.items() if COVERED[kind](name)}
    ticket = Ticket.create(
        weights,
        magnitude_masks(weights, sparsity),
        base_model_id=str(model),
        revision=None,
        model_type="bert",
        target_sparsity=sparsity,
        method="magnitude",
        objective=None,
        search={},
        metrics={},
    )
    ticket.encode(encoding, weights).save_pretrained(to)
    return to
