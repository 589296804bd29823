"""The subnetworks of a comparison: their masks, how they were found, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
RECOVERED = "recovered"  # `found_by` of weights that were trained under a mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Subnetwork:
    """A mask that is compared, and what was measured of it; or recovered weights.

    Attributes:
        method: The same for all its seeds: a name that `tamtctl.pruning.methods.known_method`
            knows, ``dense``, or the label of a ticket.
        found_by: The method of the search that found the mask, as a ticket names it, or
            ``recovered``.
        objective: The objective that the mask was trained for; None without training.
        sparsity: The sparsity as asked for; 0 for the dense model.
        seed: The seed of its search or its random mask; None where there is none.
        among: How its sparsity is spread, if not evenly; see `tamtctl.comparison.levels`.
        split: ``embeddings`` and ``layers`` → sparsity, where a sweep spreads it unevenly.
        losses: Measure → loss on held-out text; see `tamtctl.comparison.measures`.
        masks: Its masks; None for the dense model, and for recovered weights, as these are not
            ranked with masks.
        path: The folder of the ticket; None for a mask that was made on the spot.
        steps: Optimiser steps of its search.
        seconds: Seconds of its training; None if they are not known.
        calibration_seconds: Seconds in which its criterion looked at text, before any training.
        seconds_at: Step → seconds of training up to it.
        flips: Layer, or ``all`` → share of the mask that differs from the magnitude mask of the
            same sparsity.
        metrics: Task → its primary metric, after fine-tuning unless the task takes none; a task is
            missing if its training diverged.
        training: Step of its search → training loss by term.
        along: Step of its search → held-out loss by term, where that was evaluated.
        flipped: Step of its search → share of the mask that differed from the initial one.
        is_unchanged: Whether its search flipped nothing.
        is_given: Whether it was given to ``compare``, and is no baseline or cell of a sweep.
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
        """The method as tables and sentences name it."""
        facts = None if self.is_given else known_method(self.method)
        return printable.cell(facts.label if facts else self.method)

    @property
    def is_recovered(self) -> bool:
        """Whether these are weights that were trained under a mask."""
        return self.masks is None and self.found_by == RECOVERED

    @property
    def is_one_shot(self) -> bool:
        """Whether it is the mask of a criterion, found without training."""
        return not self.is_given and is_criterion(self.method)

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of the baselines that every comparison has."""
        return self.is_one_shot and find_criterion(self.method).is_baseline

    @property
    def level(self) -> Level:
        """The level at which it is compared."""
        return Level(self.sparsity, self.among)

    @property
    def name(self) -> str:
        """Method and seed."""
        return self.label + ("" if self.seed is None else f" seed {self.seed}")

    def row(self) -> dict[str, Any]:
        """Return what was measured as a flat row of plain values, for JSON and CSV."""
        losses = {column(m, "loss"): number_or_none(x.mean) for m, x in self.losses.items()}
        errors = {
            column(m, "standard_error"): number_or_none(x.standard_error)
            for m, x in self.losses.items()
        }
        metrics = {
            f"{task}_{found.metric}": found.over_seeds.mean for task, found in self.metrics.items()
        }
        rates = {
            f"{task}_learning_rate": found.found_rate.learning_rate
            for task, found in self.metrics.items()
            if found.found_rate
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
            **rates,
            "flips": self.flips.get("all"),
            "steps": self.steps,
            "seconds": self.seconds,
            "ticket": None if self.path is None else str(self.path),
        }


@dataclass(frozen=True)
class Ceiling:
    """The dense model after ordinary training.

    Attributes:
        measure: The loss in which a ticket beats the dense model.
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
        """Its name in tables."""
        return f"{CEILING} (rate {self.rate:g})"


def loss_over_seeds(group: Sequence[Subnetwork], measure: str) -> Spread:
    """Return the spread of a loss over subnetworks that differ in their seed alone."""
    return Spread.of([one.losses[measure].mean for one in group])


def steps_of(group: Sequence[Subnetwork]) -> str:
    """Return the steps of searches in words; a budget in seconds gives each seed its own number."""
    steps = [one.steps for one in group if one.steps]
    if not steps:
        return "–"
    fewest, most = min(steps), max(steps)
    return f"{most:,}" if fewest == most else f"{fewest:,}–{most:,}"


def is_scored(group: Sequence[Subnetwork], task: str) -> bool:
    """Return whether all subnetworks have a score on a task; one has none if it diverged."""
    return all(task in one.metrics for one in group)


def did_not_train(groups: Iterable[Sequence[Subnetwork]], task: str) -> str:
    """Return a clause on the methods with runs that learnt nothing on a task; empty if none has."""
    failed = [group for group in groups if any(one.metrics[task].untrained for one in group)]
    if not failed:
        return ""
    named = ", ".join(dict.fromkeys(f"{group[0].label} at {group[0].level}" for group in failed))
    return f"runs of {named} did not train: other rates or more epochs may change the order"


def metric_over_seeds(group: Sequence[Subnetwork], task: str) -> Spread:
    """Return the spread of a task's metric over the seeds of masks and fine-tuning."""
    return Spread.of([run.value for one in group for run in one.metrics[task].runs])


def baseline_masks() -> list[tuple[str, int | None]]:
    """Return method and seed of every baseline that tickets are compared with."""
    return [(row.name, seed) for row in baselines() for seed in row.seeds()]


def baseline_cells(sparsities: Sequence[float]) -> list[Cell]:
    """Return the one-shot masks that tickets of these sparsities are compared with."""
    return [
        Cell(method, sparsity, seed)
        for sparsity in sorted(set(sparsities))
        for method, seed in baseline_masks()
    ]
