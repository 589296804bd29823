"""The search for a learning rate: a few are tried on a held-out part of the training set.

The rates are a tenth, a third, one, three and ten times the usual one. Each trains a fresh model on
the rest of the training set for a fifth of the run's steps, but at least 1,000, or all if the run
has fewer: a rate that is just good for 500 steps may ruin a model in twice as many. The rate falls
to 0 within these steps. The dev set is not used.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tamtctl.foundations.errors import DamagedRunError, DivergedError
from tamtctl.tasks.finetuning.measured_sets import MeasuredSets
from tamtctl.tasks.kinds.base import Predictions
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES, metrics, resampled_metrics
from tamtctl.tasks.kinds.table import Metric, primary_metric
from tamtctl.tasks.task import Task
from tamtctl.training.run_folder import write_json

FILE = "learning-rates.json"  # the results, in the run's folder
_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
_PART, _LEAST_STEPS = 5, 1000
_SURE = 1.96  # standard errors by which two rates must differ


@dataclass(frozen=True)
class TriedRate:
    """A learning rate and its score.

    Attributes:
        learning_rate: Peak rate.
        score: The primary metric on the held-out examples; None if the training diverged.
        standard_error: Its bootstrap standard error; None if there are too few examples.
    """

    learning_rate: float
    score: float | None
    standard_error: float | None


@dataclass(frozen=True)
class RateSearch:
    """The result of trying some rates.

    Attributes:
        learning_rate: The best rate.
        metric: The metric by which it is the best.
        examples: How many were held out of the training set.
        steps: Optimiser steps of each trial.
        tried: The rates, from the lowest to the highest.
        remarks: Notes on how sure the choice is, a line each.
    """

    learning_rate: float
    metric: str
    examples: int
    steps: int
    tried: list[TriedRate]
    remarks: list[str]

    @property
    def edge(self) -> str | None:
        """``lowest`` or ``highest`` if the best rate is that of those tried, else None."""
        return _end(self.learning_rate, [one.learning_rate for one in self.tried])

    @property
    def where(self) -> str:
        """A phrase that names what the scores were measured on."""
        return f"{self.examples:,} held-out training examples, after {self.steps:,} steps"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> RateSearch | None:
        """Return the search that `dataclasses.asdict` turned into ``values``; None for None."""
        if values is None:
            return None
        own = {field.name: values[field.name] for field in fields(cls)}
        return cls(**(own | {"tried": [TriedRate(**one) for one in own["tried"]]}))


def rates_around(usual: float) -> tuple[float, ...]:
    """Return the rates to try, to two digits."""
    return tuple(float(f"{usual * factor:.2g}") for factor in _FACTORS)


def trial_steps(task: Task, examples: int, steps: int) -> int:
    """Return the optimiser steps of each trial.

    Args:
        task: The task, with epochs and batch size of the run.
        examples: How many a trial trains on.
        steps: Optimiser steps of the run.
    """
    whole = task.epochs * math.ceil(examples / task.batch_size)
    return min(whole, max(_LEAST_STEPS, steps // _PART))


class Trials:
    """The trials of a run, stored in its folder, so that a finished trial is not repeated."""

    def __init__(self, run: Path, task: Task, held_out: MeasuredSets) -> None:
        """Open the trials of a run.

        Args:
            run: The folder of the run.
            task: Names the metric.
            held_out: The examples that rates are scored on.
        """
        self._run, self._task, self._held_out = run, task, held_out

    @staticmethod
    def forget(run: Path) -> None:
        """Remove all trials from a run's folder."""
        (run / FILE).unlink(missing_ok=True)
        for folder in run.glob(".rate-*.unfinished"):
            shutil.rmtree(folder)

    def folder(self, rate: float) -> Path:
        """Return the folder of a trial's checkpoints."""
        return self._run / f".rate-{rate:g}.unfinished"

    def knows(self, rate: float) -> bool:
        """Return whether a rate has been tried."""
        return f"{rate:g}" in self._read()

    def write(self, rate: float, said: Mapping[str, Predictions] | None) -> str:
        """Store the score of a rate, and return it in words.

        Args:
            rate: The rate.
            said: Suffix → predictions for the held-out examples; None if the training diverged.
        """
        found: dict[str, Any] = {"score": None, "resampled": None}
        if said is not None:
            (suffix, predictions), *_ = said.items()
            metric, values = self._task.metrics[0], predictions.values
            examples = self._held_out.sets[suffix]
            found["score"] = metrics(self._task, values, examples)[metric]
            if kind_of(self._task).units(examples) >= MIN_EXAMPLES:
                resampled = resampled_metrics(self._task, values, examples)
                found["resampled"] = resampled[metric].tolist()
        write_json(self._run / FILE, self._read() | {f"{rate:g}": found})
        shutil.rmtree(self.folder(rate), ignore_errors=True)
        tried = _tried(rate, found)
        if tried.score is None:
            return "the training diverged"
        error = tried.standard_error
        sure = "" if error is None else f" ± {error:.4f}"
        return f"{self._task.primary_metric} {tried.score:.4f}{sure}"

    def choose(self, rates: Sequence[float], usual: float, examples: int, steps: int) -> RateSearch:
        """Return the best rate; of equally good ones, the one nearest to the usual rate.

        Args:
            rates: All rates that were tried, ascending.
            usual: The rate that would be used without a search.
            examples: How many examples were held out.
            steps: Optimiser steps of each trial.

        Raises:
            DivergedError: The training diverged with every rate.
        """
        known = self._read()
        found = {rate: known[f"{rate:g}"] for rate in rates}
        good = [rate for rate in rates if found[rate]["score"] is not None]
        if not good:
            raise DivergedError(
                f"the training diverged with every learning rate from {rates[0]:g} to "
                f"{rates[-1]:g}; give a far lower rate, or --precision fp32"
            )
        metric = primary_metric(self._task)
        best = max(
            good,
            key=lambda rate: (metric.rank(found[rate]["score"]), -abs(math.log(rate / usual))),
        )
        alike = _alike(metric, best, good, found, examples)
        return RateSearch(
            learning_rate=best,
            metric=self._task.primary_metric,
            examples=examples,
            steps=steps,
            tried=[_tried(rate, found[rate]) for rate in rates],
            remarks=list(filter(None, (_edge(best, rates), alike))),
        )

    def _read(self) -> dict[str, Any]:
        file = self._run / FILE
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if all({"score", "resampled"} <= one.keys() for one in values.values()):
                return dict(values)
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, RecursionError):
            pass
        raise DamagedRunError(f"{str(file)!r} is damaged; remove it and run the same command again")


def _tried(rate: float, found: Mapping[str, Any]) -> TriedRate:
    resampled = found["resampled"]
    error = None if resampled is None else float(np.std(resampled, ddof=1))
    return TriedRate(rate, found["score"], error)


def _end(best: float, rates: Sequence[float]) -> str | None:
    return {rates[0]: "lowest", rates[-1]: "highest"}.get(best)


def _edge(best: float, rates: Sequence[float]) -> str | None:
    end = _end(best, rates)
    if end is None:
        return None
    beyond = {"lowest": "lower", "highest": "higher"}[end]
    return (
        f"it is the {end} of those that were tried: a {beyond} one may be better still; give it "
        "with --learning-rate"
    )


def _alike(
    metric: Metric,
    best: float,
    rates: Sequence[float],
    found: Mapping[float, Any],
    examples: int,
) -> str | None:
    """Return a note on rates that a paired bootstrap cannot tell from the best, or None."""
    others = [rate for rate in rates if rate != best]
    if not others:
        return None
    if found[best]["resampled"] is None:
        return (
            f"too few held-out examples ({examples}) to tell the rates apart: {MIN_EXAMPLES} are "
            "needed"
        )
    alike = []
    for rate in others:
        differences = np.subtract(found[best]["resampled"], found[rate]["resampled"])
        gain = metric.gain(found[best]["score"], found[rate]["score"])
        if gain <= _SURE * float(np.std(differences, ddof=1)):
            alike.append(f"{rate:g}")
    if not alike:
        return None
    return f"on so few examples it cannot be told from {', '.join(alike)}"
