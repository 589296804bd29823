"""The subnetworks of a comparison: which mask, found how, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tamtctl.comparison.grid import Cell
from tamtctl.comparison.intervals import Spread
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import column
from tamtctl.comparison.task_metrics import TaskMetric
from tamtctl.foundations import printable
from tamtctl.foundations.estimates import number_or_none
from tamtctl.pruning.criteria import baselines, find_criterion, is_criterion
from tamtctl.pruning.methods import known_method
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss
from tamtctl.ticket.packed_masks import PackedMasks

DENSE = "dense"
CEILING = "dense, trained on"
RECOVERED = "recovered"  # weights that were trained under a mask; they are no mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Subnetwork:
    """A mask of the model that is compared, and what was measured of it.

    Attributes:
        method: What its seeds have in common: a name that `tamtctl.pruning.methods.known_method`
            knows, ``dense``, or the label of a ticket.
        found_by: The method of the search that found the mask, as a ticket names it, or
            ``recovered``.
        objective: What the mask was trained for; None if for nothing.
        sparsity: The sparsity as asked for; 0 for the dense model.
        seed: The seed of its search or its random mask; None where there is none.
        among: Where its sparsity is, if not alike in every matrix; see `tamtctl.comparison.levels`.
        split: Embeddings and layers → the sparsity of each, where a sweep does not have them alike.
        losses: Measure → loss on held-out text; see `tamtctl.comparison.measures`.
        masks: Its masks; None for the dense model and for recovered weights, which are ranked with
            no mask.
        path: The folder of the ticket; None for a mask that was made on the spot.
        steps: Optimiser steps of its search.
        seconds: How long its training took; None where that is not known.
        calibration_seconds: How long its criterion looked at text, before any training.
        seconds_at: Step → seconds of training until then.
        flips: Layer, or ``all`` → share of the mask that differs from the magnitude mask of the
            same sparsity.
        metrics: Task → its primary metric after fine-tuning.
        training: Step → training loss by term, of its search.
        along: Step → held-out loss by term, where its search was evaluated on its way.
        flipped: Step → share of the mask that differed from the initial one there.
        is_unchanged: Whether its search flipped nothing.
        is_given: Whether it is a ticket that was asked for, and no baseline or cell of a sweep.
    """

    method: str
    found_by: str
    objective: str | None
    sparsity: float
    seed: int | None
    losses: Mapping[str, HeldOutLoss]
    among: str = ""
    split: Mapping[str, float] = field(default_factory=dict)
    masks: PackedMasks | None = None
    path: Path | None = None
    steps: int | None = None
    seconds: float | None = None
    calibration_seconds: float = 0.0
    seconds_at: Mapping[int, float] = field(default_factory=dict)
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
        facts = None if self.is_given else known_method(self.method)
        return printable.cell(facts.label if facts else self.method)

    @property
    def is_recovered(self) -> bool:
        """Whether it is weights that were trained under a mask."""
        return self.masks is None and self.found_by == RECOVERED

    @property
    def is_one_shot(self) -> bool:
        """Whether it is the mask of a criterion, which took no training."""
        return not self.is_given and is_criterion(self.method)

    @property
    def is_baseline(self) -> bool:
        """Whether it is a mask that every ticket is set beside, unasked."""
        return self.is_one_shot and find_criterion(self.method).is_baseline

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
            "method": self.found_by,
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


@dataclass(frozen=True)
class Ceiling:
    """The dense model after ordinary training.

    Attributes:
        measure: The loss in which a ticket is below the dense model.
        steps: Optimiser steps of the training, and of the search of that ticket.
        rate: Its first learning rate, which falls linearly to 0.
        losses: Measure → loss on the held-out text of the comparison.
    """

    measure: str
    steps: int
    rate: float
    losses: Mapping[str, HeldOutLoss]

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{CEILING} (rate {self.rate:g})"


def loss_over_seeds(group: Sequence[Subnetwork], measure: str) -> Spread:
    """Return a loss over the subnetworks that differ in their seed alone."""
    return Spread.of([one.losses[measure].mean for one in group])


def metric_over_seeds(group: Sequence[Subnetwork], task: str) -> Spread:
    """Return a task's metric over the seeds of the masks and of their fine-tuning."""
    return Spread.of([run.value for one in group for run in one.metrics[task].runs])


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
