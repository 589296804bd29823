"""The plan of a fine-tuning run, and its result."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.watching import Watcher
from tamtctl.tasks.finetuning.known_runs import (
    KnownRun,
)
from tamtctl.tasks.finetuning.learnt_nothing import (
    ADVICE,
    ADVICE_BESIDES,
)
from tamtctl.tasks.finetuning.rate_search import RateSearch
from tamtctl.tasks.finetuning.schedule import TaskSchedule
from tamtctl.tasks.task import Task


@dataclass(frozen=True)
class FinetunePlan:
    """What a fine-tuning run is about to do.

    Attributes:
        task: The task, with the values that will be used.
        training: Rate, epochs and warm-up, and where they are from.
        model: The model that is loaded.
        ticket: The name of the ticket; None for the dense model.
        sparsity: Share of zeros in the masked matrices; 0 for the dense model.
        zeros: ``kept`` if the zeros of the ticket or the model stay, ``trained`` if they are
            trained like other weights, None if there are none.
        data: Where the examples are from.
        train_examples: How many examples are trained on.
        dev_examples: How many examples are measured on.
        max_length: Tokens per example.
        epochs: Passes over the training set.
        steps: Optimiser steps of each seed.
        seeds: The seeds, each of which trains a model.
        select: The epoch to report, ``last`` or ``best``.
        compute: Device and precision.
        run_folder: The folder of the run.
        labels: What the labels are taken for: the classes, or the range of the numbers.
        notes: Notes to read before a metric is believed, a line each.
        train_cut: How many of the examples to train on are too long and are cut.
        dev_cut: How many of the dev examples are too long and are cut.
        has_made_dev: Whether the dev examples are a held-out part of the training file.
        rates: The learning rates to try; empty without a search for one.
        patience: Epochs without a better metric after which training stops; None: never.
    """

    task: Task
    training: TaskSchedule
    model: str
    ticket: str | None
    sparsity: float
    zeros: str | None
    data: str
    train_examples: int
    dev_examples: int
    max_length: int
    epochs: int
    steps: int
    seeds: Sequence[int]
    select: str
    compute: Compute
    run_folder: Path
    labels: str
    notes: tuple[str, ...]
    train_cut: int
    dev_cut: int
    has_made_dev: bool
    rates: tuple[float, ...]
    patience: int | None


@dataclass(frozen=True)
class MetricOverSeeds:
    """One metric over the seeds.

    Attributes:
        scores: Its value for each seed.
        mean: The mean of the values.
        std: Their standard deviation (n - 1); None for a single seed.
        standard_errors: The standard error of each value over dev sets of this size; None if there
            are too few examples.
        constant: Its value for the constant answer; see `FinetuneResult`.
    """

    scores: list[float]
    mean: float
    std: float | None
    standard_errors: list[float | None] = field(default_factory=list)
    constant: float | None = None

    @classmethod
    def of(
        cls, values: Sequence[float], errors: Sequence[float | None], constant: float | None
    ) -> MetricOverSeeds:
        """Summarise the values of the seeds."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(list(values), statistics.fmean(values), std, list(errors), constant)

    @property
    def standard_error(self) -> float | None:
        """The mean of the seeds' standard errors, as all seeds are scored on the same dev set."""
        known = [error for error in self.standard_errors if error is not None]
        return statistics.fmean(known) if known else None


@dataclass(frozen=True, repr=False)
class FinetuneResult(Shown):
    """The result of fine-tuning.

    Attributes:
        task: The name of the task.
        metric: Name of the primary metric; ``scores``, ``mean`` and ``std`` are its.
        scores: Its value for each seed.
        mean: The mean of the scores.
        std: Their standard deviation (n - 1); None for a single seed.
        metrics: Metric → its values over the seeds.
        dev_selected: Whether the epoch was chosen on the dev set itself, so that metrics are too
            good.
        seeds: The seeds, in the order of ``scores``.
        sparsity: Share of zeros in the masked matrices.
        zeros: What became of them; see `FinetunePlan`.
        model: The model that was fine-tuned.
        ticket: The name of its ticket; None for the dense model.
        train_examples: How many examples were trained on.
        dev_examples: How many examples were measured on.
        epochs: Passes over the training set.
        steps: Optimiser steps of each seed.
        seconds: Seconds of each seed's training, without its scoring.
        checkpoint: The folder of each seed, ready for ``from_pretrained``.
        run_folder: The run's folder.
        resumed_from: How many seeds an interrupted run had already done.
        already_done: Whether this is the result of an earlier run.
        labels: What the labels were taken for: the classes, or the range of the numbers.
        notes: Notes to read before a metric is believed, a line each.
        train_cut: How many of the examples to train on were too long and were cut.
        dev_cut: How many of the dev examples were too long and were cut.
        has_made_dev: Whether the dev examples were a held-out part of the training file.
        training: Rate, epochs and warm-up, and where they are from.
        standard_error: Standard error of a seed's score over dev sets of this size; None if there
            are too few examples.
        constant_answer: The training set's most frequent class or answer, or mean label.
        constant_score: The primary metric on the dev set if every example gets that answer.
        untrained: A sentence on seeds that learnt nothing; None if all learnt something.
        beside: Finished runs of the same setting under ``runs/``: for a ticket those of the dense
            model, for the dense model those of tickets.
        rate_search: How the learning rate was found; None if it was not searched for.
        patience: Epochs without a better metric after which training stops; None: never.
        selected_on: The examples on which the reported epoch is the best; None if it is the last.
        epochs_done: The epochs of each seed; fewer than ``epochs`` if it stopped early.
        reported_epochs: For each seed, the epoch (from 1) whose metrics are reported.

    Example:
        >>> tuned = tamtctl.finetune(tuning)
        >>> tuned.sparsity, tuned.zeros, tuned.checkpoint[0].name
        (0.5, 'kept', 'seed-1')
    """

    task: str
    metric: str
    scores: list[float]
    mean: float
    std: float | None
    metrics: dict[str, MetricOverSeeds]
    dev_selected: bool
    seeds: list[int]
    sparsity: float
    model: str
    ticket: str | None
    train_examples: int
    dev_examples: int
    epochs: int
    steps: int
    seconds: list[float]
    checkpoint: list[Path]
    run_folder: Path
    resumed_from: int = 0
    already_done: bool = False
    labels: str = ""
    notes: tuple[str, ...] = ()
    train_cut: int = 0
    dev_cut: int = 0
    has_made_dev: bool = False
    zeros: str | None = None
    training: TaskSchedule | None = None
    standard_error: float | None = None
    constant_answer: str | float | None = None
    constant_score: float | None = None
    untrained: str | None = None
    beside: list[KnownRun] = field(default_factory=list)
    rate_search: RateSearch | None = None
    patience: int | None = None
    selected_on: str | None = None
    epochs_done: list[int] = field(default_factory=list)
    reported_epochs: list[int] = field(default_factory=list)

    @property
    def stopped_early(self) -> list[bool]:
        """Whether patience ended each seed before its last epoch."""
        return [done < self.epochs for done in self.epochs_done]

    @property
    def untrained_line(self) -> str | None:
        """A line on seeds that learnt nothing, with advice; None if all learnt something."""
        advice = ADVICE_BESIDES if self.rate_search else ADVICE
        return self.untrained and f"{self.untrained}; {advice}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = {
            "checkpoint": list(map(str, self.checkpoint)),
            "run_folder": str(self.run_folder),
            "notes": list(self.notes),
            "stopped_early": self.stopped_early,
        }
        return asdict(self) | plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FinetuneResult:
        """Return the result that `to_dict` wrote."""
        changed = {
            "metrics": {
                name: MetricOverSeeds(**metric) for name, metric in values["metrics"].items()
            },
            "checkpoint": list(map(Path, values["checkpoint"])),
            "run_folder": Path(values["run_folder"]),
            "notes": tuple(values.get("notes", ())),
            "training": TaskSchedule(**values["training"]),
            "beside": [KnownRun(**run) for run in values.get("beside", ())],
            "rate_search": RateSearch.from_dict(values.get("rate_search")),
        }
        known = {name: value for name, value in values.items() if name != "stopped_early"}
        return cls(**(known | changed))


FinetuneWatcher = Watcher[FinetunePlan]
