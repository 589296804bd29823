"""Fine-tuned scores of the subnetworks of a comparison, and those of resampled dev sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.intervals import Resampled, Spread
from tamtctl.foundations.errors import DamagedRunError
from tamtctl.foundations.watching import Watcher
from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.result import FinetunePlan, FinetuneResult
from tamtctl.tasks.finetuning.seed_folder import read_predictions
from tamtctl.tasks.kinds.metrics import resampled_metrics
from tamtctl.tasks.kinds.table import direction
from tamtctl.tasks.run_facts import RunFacts

_RESAMPLES = 1000  # of a dev set; each is scored anew


@dataclass(frozen=True)
class TaskScore:
    """A subnetwork's score on one task.

    Attributes:
        metric: The task's primary one.
        scores: Over the seeds of fine-tuning.
        runs: The score of each seed, on the dev set and on resamples of it.
        constant: What the training set's most frequent answer scores; None if it is not known.
        constant_answer: Which answer that is.
        untrained: Which seeds learnt nothing, and how that is told; None if none of them is so.
    """

    metric: str
    scores: Spread
    runs: list[Resampled]
    constant: float | None = None
    constant_answer: str | float | None = None
    untrained: str | None = None

    @property
    def label(self) -> str:
        """What a heading or an axis calls the metric."""
        return self.metric.replace("_", " ") + direction(self.metric)


def fine_tune(
    config: CompareConfig,
    task: str,
    model: str,
    ticket: Path | None,
    watcher: Watcher[FinetunePlan] | None = None,
) -> FinetuneResult:
    """Fine-tune a ticket, or the dense model, or return what an earlier run came to."""
    where = config.defaults()
    return finetune(
        FinetuneConfig(
            task=task,
            ticket=None if ticket is None else str(ticket),
            dense=ticket is None,
            model=model,
            data_dir=config.data_dir,
            limit=config.limit,
            learning_rate=config.task_learning_rate,
            epochs=config.task_epochs,
            seeds=config.task_seeds,
            precision=where.precision,
            device=where.device,
            threads=where.threads,
        ),
        watcher=watcher,
    )


def score_of(result: FinetuneResult) -> TaskScore:
    """Return the scores of a fine-tuning run, from the predictions that it left."""
    runs = [
        _resampled(score, folder, result.metric)
        for score, folder in zip(result.scores, result.checkpoint, strict=True)
    ]
    return TaskScore(
        result.metric,
        Spread.of(result.scores),
        runs,
        result.constant_score,
        result.constant_answer,
        result.untrained,
    )


def score_notes(task: str, scores: Mapping[str, TaskScore]) -> Iterator[str]:
    """Yield what the scores of a task stand beside, and which of them are none.

    Args:
        task: Its name.
        scores: Name of a subnetwork → its scores.
    """
    first = next(iter(scores.values()))
    if first.constant is not None and first.constant_answer is not None:
        answer = ConstantAnswer(first.constant_answer)
        metric = first.metric.replace("_", " ")
        yield f"{task}: always answering {answer} has {metric} {first.constant:.3f}"
    for name, score in scores.items():
        if score.untrained:
            yield (
                f"{task}, {name}: {score.untrained}; try another --task-learning-rate, more "
                "--task-epochs, or a larger --limit"
            )


def _resampled(score: float, checkpoint: Path, metric: str) -> Resampled:
    """Score resamples of the dev set that the primary metric is of."""
    facts = RunFacts.read(checkpoint)
    if facts is None:
        raise DamagedRunError(f"{str(checkpoint)!r} has lost its metrics.json; fine-tune again")
    task = facts.task  # as the run had it: a task of labelled files has its own classes
    suffix, split = next(iter(task.dev_splits.items()))
    said, examples = read_predictions(checkpoint, task, split)
    resampled = resampled_metrics(task, said, examples, _RESAMPLES)[metric.removesuffix(suffix)]
    return Resampled(score, resampled, len(examples))
