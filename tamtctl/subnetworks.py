"""The subnetworks of a comparison: which mask, found how, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tamtctl.downstream import TaskScore
from tamtctl.errors import TicketError
from tamtctl.held_out import HeldOutText
from tamtctl.held_out_loss import HeldOutLoss
from tamtctl.pruning import magnitude_masks, random_masks
from tamtctl.runs import TICKET
from tamtctl.searching import SearchResult
from tamtctl.similarity import place_of
from tamtctl.sweep import RANDOM_SEEDS, Cell
from tamtctl.sweeping import losses_along, training_losses
from tamtctl.ticket import Ticket, resolve_ticket

DENSE = "dense"
LABELS = {
    "tamt-mlm": "TAMT-MLM",
    "tamt-kd": "TAMT-KD",
    "tamt-mlm+kd": "TAMT-MLM+KD",
    "imp": "IMP",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Subnetwork:
    """A mask of the model that is compared, and what was measured of it.

    Attributes:
        method: What its seeds have in common: a name in `tamtctl.sweep.SWEEP_METHODS`, ``dense``,
            or the name of a ticket.
        objective: What the mask was trained for; None if for nothing.
        sparsity: As asked for; 0 for the dense model.
        seed: Of its search or its random mask; None where there is none.
        losses: By term, on held-out text.
        ticket: Its masks, one bit per weight; None for the dense model.
        path: The folder of the ticket; None for a mask that was made on the spot.
        steps: Optimiser steps of its search.
        seconds: Of its training.
        flips: By layer and over ``all``, the share of the mask that differs from the magnitude mask
            of the same sparsity.
        scores: By task.
        training: Step → training loss by term, of its search.
        along: Step → held-out loss by term, where its search was evaluated on its way.
    """

    method: str
    objective: str | None
    sparsity: float
    seed: int | None
    losses: Mapping[str, HeldOutLoss]
    ticket: Ticket | None = None
    path: Path | None = None
    steps: int | None = None
    seconds: float | None = None
    flips: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, TaskScore] = field(default_factory=dict)
    training: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    along: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The method as a text names it; the ticket of a search is called after its run."""
        return LABELS.get(self.method) or short_name(self.method)

    @property
    def name(self) -> str:
        """Method and seed."""
        return self.label + ("" if self.seed is None else f" seed {self.seed}")

    def row(self) -> dict[str, Any]:
        """Return what was measured as one flat row of plain values."""
        losses = {f"{term}_loss": loss.mean for term, loss in self.losses.items()}
        errors = {f"{term}_standard_error": x.standard_error for term, x in self.losses.items()}
        scores = {
            f"{task}_{score.metric}": score.scores.mean for task, score in self.scores.items()
        }
        return {
            "method": self.ticket.method if self.ticket else self.method,
            "objective": self.objective,
            "sparsity": self.sparsity,
            "seed": self.seed,
            **losses,
            **errors,
            **scores,
            "flips": self.flips.get("all"),
            "steps": self.steps,
            "seconds": self.seconds,
            "ticket": None if self.path is None else str(self.path),
        }


def short_name(ticket: str) -> str:
    """Return what to call a ticket: that of a search is called after its run."""
    path = Path(ticket)
    called = path.parent.name if path.name == TICKET else ""
    return called.removeprefix("search-") or path.name


def dense(text: HeldOutText) -> Subnetwork:
    """Measure the model without any mask."""
    return Subnetwork(
        method=DENSE, objective=None, sparsity=0.0, seed=None, losses=text.losses(None)
    )


def of_cell(cell: Cell, found: SearchResult | None, text: HeldOutText) -> Subnetwork:
    """Measure a cell of a sweep.

    Args:
        cell: The cell.
        found: The result of its search; None for a one-shot mask without a run of its own.
        text: What to measure on.
    """
    weights = text.weights
    if found is None:
        ticket = _one_shot_ticket(cell, weights, text)
    else:
        ticket = Ticket.load(found.ticket).decode(weights)
    return Subnetwork(
        method=cell.method,
        objective=cell.objective,
        sparsity=cell.sparsity,
        seed=cell.seed,
        losses=text.losses(ticket.masks),
        ticket=ticket,
        path=found.ticket if found else None,
        steps=found.steps if found else 0,
        seconds=found.seconds if found else 0.0,
        flips=_flips(ticket, magnitude_masks(weights, cell.sparsity)),
        training=training_losses(found) if found else {},
        along=losses_along(found) if found else {},
    )


def of_ticket(name: str, ticket: Ticket, text: HeldOutText) -> Subnetwork:
    """Measure a ticket.

    Raises:
        TicketError: It is not a ticket of the model at hand.
    """
    if ticket.base_model.fingerprint != text.fingerprint:
        raise TicketError(
            f"{name} is a ticket of {ticket.base_model.id!r}, whose weights are not those of model "
            f"{text.encoder.id!r}; compare tickets of one model"
        )
    weights = text.weights
    ticket = ticket.decode(weights)
    return Subnetwork(
        method=name,
        objective=ticket.objective if ticket.method == "tamt" else None,
        sparsity=ticket.target_sparsity,
        seed=None,
        losses=text.losses(ticket.masks),
        ticket=ticket,
        path=resolve_ticket(name).path,
        steps=ticket.metrics.get("steps"),
        flips=_flips(ticket, magnitude_masks(weights, ticket.target_sparsity)),
    )


def baseline_cells(sparsities: Sequence[float]) -> list[Cell]:
    """Return the one-shot masks that tickets of these sparsities are compared with."""
    return [
        cell
        for sparsity in sorted(set(sparsities))
        for cell in (
            Cell("magnitude", sparsity, None),
            *(Cell("random", sparsity, seed) for seed in RANDOM_SEEDS),
        )
    ]


def _one_shot_ticket(cell: Cell, weights: Mapping[str, Tensor], text: HeldOutText) -> Ticket:
    if cell.method == "magnitude":
        masks = magnitude_masks(weights, cell.sparsity)
    else:
        assert cell.seed is not None
        masks = random_masks(weights, cell.sparsity, cell.seed)
    return Ticket.create(
        weights,
        masks,
        base_model_id=text.encoder.id,
        revision=text.encoder.revision,
        model_type=text.encoder.model.config.model_type,
        target_sparsity=cell.sparsity,
        method=cell.method,
        objective=None,
        search={},
        metrics={},
    )


def _flips(ticket: Ticket, magnitude: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the share of mask bits that differ from the magnitude mask, by layer and over all."""
    flipped: dict[str, int] = {}
    total: dict[str, int] = {}
    for name, mask in ticket.masks.items():
        layer = place_of(name).layer
        count = int((mask != magnitude[name]).sum())
        for group in ("all", "outside" if layer is None else str(layer)):
            flipped[group] = flipped.get(group, 0) + count
            total[group] = total.get(group, 0) + mask.numel()
    return {group: flipped[group] / total[group] for group in total}
