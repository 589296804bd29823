"""The subnetworks of a comparison: which mask, found how, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tamtctl.comparison.baselines import one_shot_ticket
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.intervals import Spread, number_or_none
from tamtctl.comparison.levels import Level, TicketLevel
from tamtctl.comparison.measures import column, loss_measure
from tamtctl.comparison.sweep import flips_along, losses_along, training_losses
from tamtctl.comparison.task_metrics import TaskMetric
from tamtctl.foundations import printable
from tamtctl.foundations.selection import keep_count
from tamtctl.pruning.criteria import CRITERIA, baselines
from tamtctl.pruning.methods import TAMT, TRAINED, sweep_methods
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss
from tamtctl.pruning.one_shot import reference_masks
from tamtctl.pruning.searching.mask_probe import HeldOutText
from tamtctl.pruning.searching.run import SearchResult
from tamtctl.ticket.similarity import place_of
from tamtctl.ticket.ticket import Ticket

Texts = Mapping[str, HeldOutText]  # by what tables call them: nothing, where there is only one

DENSE = "dense"


@dataclass(frozen=True, kw_only=True, eq=False)
class Subnetwork:
    """A mask of the model that is compared, and what was measured of it.

    Attributes:
        method: What its seeds have in common: a name in `tamtctl.pruning.methods.sweep_methods`,
            ``dense``, or the label of a ticket.
        objective: What the mask was trained for; None if for nothing.
        sparsity: As asked for; 0 for the dense model.
        seed: Seed of its search or its random mask; None where there is none.
        among: Names a level that is not alike in every matrix; see `tamtctl.comparison.levels`.
        losses: By measure, on held-out text; see `tamtctl.comparison.measures`.
        ticket: Its masks, one bit per weight; None for the dense model.
        path: The folder of the ticket; None for a mask that was made on the spot.
        steps: Optimiser steps of its search.
        seconds: Seconds of its training.
        flips: By layer and over ``all``, the share of the mask that differs from the magnitude mask
            of the same sparsity.
        metrics: Task → its primary metric after fine-tuning.
        training: Step → training loss by term, of its search.
        along: Step → held-out loss by term, where its search was evaluated on its way.
        flipped: Step → share of the mask that differed from the initial one there.
        is_unchanged: Whether its search flipped nothing.
        is_given: Whether it is a ticket that was asked for, and no baseline or cell of a sweep.
    """

    method: str
    objective: str | None
    sparsity: float
    seed: int | None
    losses: Mapping[str, HeldOutLoss]
    among: str = ""
    ticket: Ticket | None = None
    path: Path | None = None
    steps: int | None = None
    seconds: float | None = None
    flips: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, TaskMetric] = field(default_factory=dict)
    training: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    along: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    flipped: Mapping[int, float] = field(default_factory=dict)
    is_unchanged: bool = False
    is_given: bool = False

    @property
    def label(self) -> str:
        """The method as a text names it."""
        facts = sweep_methods().get(self.method)
        return printable.cell(self.method if self.is_given or not facts else facts.label)

    @property
    def is_one_shot(self) -> bool:
        """Whether it is the mask of a criterion, which took no training."""
        return not self.is_given and self.method in CRITERIA

    @property
    def is_baseline(self) -> bool:
        """Whether it is a mask that every ticket is set beside, unasked."""
        return self.is_one_shot and CRITERIA[self.method].is_baseline

    @property
    def level(self) -> Level:
        """What it is compared at."""
        return Level(self.sparsity, self.among)

    @property
    def name(self) -> str:
        """Method and seed."""
        return self.label + ("" if self.seed is None else f" seed {self.seed}")

    def row(self) -> dict[str, Any]:
        """Return what was measured as one flat row of plain values."""
        losses = {column(m, "loss"): number_or_none(x.mean) for m, x in self.losses.items()}
        errors = {
            column(m, "standard_error"): number_or_none(x.standard_error)
            for m, x in self.losses.items()
        }
        metrics = {
            f"{task}_{found.metric}": found.over_seeds.mean for task, found in self.metrics.items()
        }
        return {
            "method": self.ticket.method if self.ticket else self.method,
            "objective": self.objective,
            "name": self.name,
            "sparsity": self.sparsity,
            "among": self.among or None,
            "seed": self.seed,
            **losses,
            **errors,
            **metrics,
            "flips": self.flips.get("all"),
            "steps": self.steps,
            "seconds": self.seconds,
            "ticket": None if self.path is None else str(self.path),
        }


def loss_over_seeds(group: Sequence[Subnetwork], measure: str) -> Spread:
    """Return a loss over the subnetworks that differ in their seed alone."""
    return Spread.of([one.losses[measure].mean for one in group])


def metric_over_seeds(group: Sequence[Subnetwork], task: str) -> Spread:
    """Return a task's metric over the seeds of the masks and of their fine-tuning."""
    return Spread.of([run.value for one in group for run in one.metrics[task].runs])


def dense(texts: Texts) -> Subnetwork:
    """Measure the model without any mask."""
    return Subnetwork(
        method=DENSE, objective=None, sparsity=0.0, seed=None, losses=_losses(texts, None)
    )


def of_cell(cell: Cell, found: SearchResult | None, texts: Texts) -> Subnetwork:
    """Measure a cell of a sweep, or a one-shot mask that tickets are compared with.

    Args:
        cell: The cell.
        found: The result of its search; None for a one-shot mask without a run of its own.
        texts: What to measure on.
    """
    text = next(iter(texts.values()))
    weights = text.weights
    counts = {name: keep_count(weight.numel(), cell.sparsity) for name, weight in weights.items()}
    if found is None:
        ticket = one_shot_ticket(cell.method, cell.seed, counts, cell.sparsity, text)
    else:
        ticket = Ticket.load(found.ticket).decode(weights)
    return Subnetwork(
        method=cell.method,
        objective=cell.objective,
        sparsity=cell.sparsity,
        seed=cell.seed,
        losses=_losses(texts, ticket.masks),
        ticket=ticket,
        path=found.ticket if found else None,
        steps=found.steps if found else 0,
        seconds=found.seconds if found else 0.0,
        flips=_flips(ticket, reference_masks(weights, counts)),
        training=training_losses(found) if found else {},
        along=losses_along(found) if found else {},
        flipped=flips_along(found) if found else {},
        is_unchanged=found is not None and found.steps > 0 and found.flips == 0,
    )


def of_ticket(label: str, path: Path, ticket: Ticket, at: TicketLevel, texts: Texts) -> Subnetwork:
    """Measure a ticket of the model at hand.

    Args:
        label: What to call it.
        path: Its folder.
        ticket: It.
        at: Its level.
        texts: What to measure on.
    """
    weights = next(iter(texts.values())).weights
    ticket = ticket.decode(weights)
    is_trained = ticket.method in TRAINED
    return Subnetwork(
        method=label,
        objective=ticket.objective if ticket.method == TAMT else None,
        sparsity=at.level.sparsity,
        among=at.level.among,
        seed=None,
        losses=_losses(texts, ticket.full_masks(weights)),
        ticket=ticket,
        path=path,
        steps=_count(ticket.metrics.get("steps")),
        flips=_flips(ticket, reference_masks(weights, at.counts)),
        is_unchanged=is_trained and ticket.metrics.get("flips") == 0,
        is_given=True,
    )


def of_one_shot(method: str, seed: int | None, at: TicketLevel, texts: Texts) -> Subnetwork:
    """Measure a one-shot mask of a level that is not alike in every matrix."""
    text = next(iter(texts.values()))
    ticket = one_shot_ticket(method, seed, at.counts, at.level.sparsity, text)
    return Subnetwork(
        method=method,
        objective=None,
        sparsity=at.level.sparsity,
        among=at.level.among,
        seed=seed,
        losses=_losses(texts, ticket.full_masks(text.weights)),
        ticket=ticket,
        steps=0,
        seconds=0.0,
        flips=_flips(ticket, reference_masks(text.weights, at.counts)),
    )


def baseline_masks() -> list[tuple[str, int | None]]:
    """Return method and seed of every mask that a ticket is set beside, unasked."""
    return [(row.name, seed) for row in baselines() for seed in row.seeds()]


def baseline_cells(sparsities: Sequence[float]) -> list[Cell]:
    """Return the one-shot masks that tickets of these sparsities are compared with."""
    return [
        Cell(method, sparsity, seed)
        for sparsity in sorted(set(sparsities))
        for method, seed in baseline_masks()
    ]


def _losses(texts: Texts, masks: Mapping[str, Tensor] | None) -> dict[str, HeldOutLoss]:
    """Return measure → loss: of each term on every text."""
    found = {label: text.losses(masks) for label, text in texts.items()}
    terms = next(iter(texts.values())).terms
    return {loss_measure(term, label): found[label][term] for term in terms for label in texts}


def _count(value: object) -> int | None:
    """Return a number of steps as a ticket says it, None for what is none."""
    return value if type(value) is int and value >= 0 else None


def _flips(ticket: Ticket, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the share of mask bits that differ from the magnitude mask, by layer and over all."""
    flipped: dict[str, int] = {}
    total: dict[str, int] = {}
    for name in ticket.parameters:
        if name not in reference:
            continue
        mask = ticket.mask(name)
        layer = place_of(name).layer
        count = int((mask != reference[name]).sum())
        for group in ("all", "outside" if layer is None else str(layer)):
            flipped[group] = flipped.get(group, 0) + count
            total[group] = total.get(group, 0) + mask.numel()
    return {group: flipped[group] / total[group] for group in total}
