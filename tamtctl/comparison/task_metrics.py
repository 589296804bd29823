"""Task metrics of the subnetworks of a comparison, on dev sets and resamples of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tamtctl.comparison.intervals import Resampled, Spread
from tamtctl.foundations.errors import DamagedRunError
from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.finetuning.rate_search import RateSearch
from tamtctl.tasks.finetuning.result import FinetuneResult
from tamtctl.tasks.finetuning.seed_folder import read_predictions
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.metrics import INTERVAL_RESAMPLES, MIN_EXAMPLES, metrics, resampled_metrics
from tamtctl.tasks.kinds.table import direction
from tamtctl.tasks.run_facts import RunFacts


@dataclass(frozen=True)
class TaskMetric:
    """The primary metric of a task for one subnetwork.

    Attributes:
        metric: The name of the metric.
        over_seeds: Its mean over the seeds of fine-tuning; without training, its only value.
        runs: Its value for each seed, on the dev set and on resamples of it.
        constant: Its value for the constant answer, the training set's most frequent label; None if
            it is not known.
        constant_answer: That answer.
        untrained: A sentence on seeds that learnt nothing; None if there are none.
        found_rate: How its learning rate was found; None if none was searched for.
        notes: Notes to read before the value is believed.
    """

    metric: str
    over_seeds: Spread
    runs: list[Resampled]
    constant: float | None = None
    constant_answer: str | float | None = None
    untrained: str | None = None
    found_rate: RateSearch | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name of the metric in headings and on axes."""
        return self.metric.replace("_", " ") + direction(self.metric)


def metric_of(result: FinetuneResult) -> TaskMetric:
    """Return the metric of a fine-tuning run, from the predictions in its folder.

    Raises:
        DamagedRunError: A seed has lost its predictions or facts, or they are not those of its
            score.
    """
    runs = [
        _resampled(value, folder, result.metric)
        for value, folder in zip(result.scores, result.checkpoint, strict=True)
    ]
    return TaskMetric(
        result.metric,
        Spread.of(result.scores),
        runs,
        result.constant_score,
        result.constant_answer,
        result.untrained,
        result.rate_search,
    )


def metric_notes_of(task: str, found: Mapping[str, TaskMetric]) -> Iterator[str]:
    """Yield a task's constant score, the rates that were found, and which runs learnt nothing.

    Args:
        task: The name of the task.
        found: Name of a subnetwork → its metric.
    """
    first = next(iter(found.values()))
    yield from (f"{task}: {note}" for note in first.notes)
    if first.constant is not None and first.constant_answer is not None:
        answer = ConstantAnswer(first.constant_answer)
        metric = first.metric.replace("_", " ")
        yield f"{task}: always answering {answer} has {metric} {first.constant:.3f}"
    yield from _on_rates(task, found)
    alike: dict[str, list[str]] = {}  # sentence → those that it holds for
    for name, one in found.items():
        if one.untrained:
            rate = "" if one.found_rate else "another --task-learning-rate, "
            advice = f"{one.untrained}; try {rate}more --task-epochs, or a larger --limit"
            alike.setdefault(advice, []).append(name)
    yield from (f"{task}, {', '.join(names)}: {advice}" for advice, names in alike.items())


def _on_rates(task: str, found: Mapping[str, TaskMetric]) -> Iterator[str]:
    """Yield which learning rate was found for which subnetworks, and whether it is at the edge."""
    searches = {name: one.found_rate for name, one in found.items() if one.found_rate}
    for rate in sorted({one.learning_rate for one in searches.values()}):
        alike = {name: one for name, one in searches.items() if one.learning_rate == rate}
        search = next(iter(alike.values()))
        edge = f", the {search.edge} that was tried," if search.edge else ""
        yield (
            f"{task}: the rate {rate:g}{edge} was the best on {search.where} with the first seed, "
            f"for {', '.join(alike)}"
        )


def _resampled(value: float, checkpoint: Path, metric: str) -> Resampled:
    """Return the primary metric of a checkpoint with its values on resamples of the dev set."""
    facts = RunFacts.read(checkpoint)
    if facts is None:
        raise DamagedRunError(
            f"{str(checkpoint)!r} has lost its metrics.json; --force fine-tunes again"
        )
    task = facts.task  # of the run, as a task of labelled files has classes of its own
    suffix, split = next(iter(task.dev_splits.items()))
    said, examples = read_predictions(checkpoint, task, split)
    name = metric.removesuffix(suffix)
    if not (len(examples) and math.isclose(metrics(task, said, examples)[name], value)):
        raise DamagedRunError(
            f"the predictions in {str(checkpoint)!r} are not those of its score; "
            "--force fine-tunes again"
        )
    count, units = len(examples), kind_of(task).units(examples)
    resamples = INTERVAL_RESAMPLES if units >= MIN_EXAMPLES else 0  # fewer have no interval
    resampled = resampled_metrics(task, said, examples, resamples)[name]
    return Resampled(value, resampled, count, groups=None if units == count else units)
