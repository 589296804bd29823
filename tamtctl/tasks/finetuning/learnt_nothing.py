"""Runs that learnt nothing: how they are detected, and the sentence that reports them.

A seed learnt nothing measurable if its metric is not better than the constant answer's by more than
its standard error. If so, or without a standard error, it did not train if it gives every dev
example the same answer, or if its training loss at the end is still above 0.95 of the constant
answer's (``constant_loss`` of the task's kind). The loss at the end is a moving average over a
tenth of the steps, or over ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.table import Metric
from tamtctl.tasks.task import Task

HARDLY_MOVED = 0.95  # share of the constant answer's loss
_NAMED = 3  # seeds whose reasons are given, at most
_UNTRAINED, _SHOWS_NOTHING = "did not train", "did no better than a constant answer"

ADVICE = "try --find-learning-rate, more --epochs, or more examples"
ADVICE_BESIDES = "try more --epochs, or more examples"  # after a search for the rate


@dataclass(frozen=True)
class Finding:
    """A sign that a seed learnt nothing.

    Attributes:
        is_untrained: Whether it did not train at all; else it is no better than a constant answer.
        why: A clause whose subject is the seed.
    """

    is_untrained: bool
    why: str

    def __str__(self) -> str:
        return f"{_UNTRAINED if self.is_untrained else _SHOWS_NOTHING}: it {self.why}"


def plainest(
    task: Task,
    values: list[Any],
    examples: Examples,
    no_gain: Finding | None,
    error: float | None,
    still: Finding | None = None,
) -> Finding | None:
    """Return the plainest sign that a seed learnt nothing, None if there is none.

    There is none where the score is surely better than a constant answer's: the training loss of a
    short run is a mean over the untrained model's, and numbers that hardly vary may be in order.

    Args:
        task: The task.
        values: The predictions.
        examples: The dev examples.
        no_gain: What `no_better` found.
        error: The standard error of the metric; None if there are too few examples.
        still: What `loss_hardly_moved` found; None, too, if the loss is not known.
    """
    if no_gain is None and error is not None:
        return None
    return same_answer(task, values, examples) or still or no_gain


def same_answer(task: Task, values: list[Any], examples: Examples) -> Finding | None:
    """Return a finding if all predictions are the same; None if not."""
    kind = kind_of(task)
    if len(examples) < 2 or not kind.are_alike(values, examples):
        return None
    value = kind.shared_answer(values)
    what = "about the same number" if isinstance(value, float) else "the same answer"
    return Finding(True, f"gives every dev example {what}, {ConstantAnswer(value)}")


def loss_hardly_moved(loss: float | None, constant: float) -> Finding | None:
    """Return a finding if the training loss ended near that of a constant answer.

    Args:
        loss: The training loss at the end; None if it is not known.
        constant: The loss of the constant answer; 0 if all labels are the same.
    """
    if loss is None or constant <= 0 or loss < HARDLY_MOVED * constant:
        return None
    return Finding(
        True, f"ended at a training loss of {loss:.3f}, where a constant answer has {constant:.3f}"
    )


def no_better(
    metric: Metric,
    name: str,
    value: float,
    error: float | None,
    answer: ConstantAnswer,
    constant: float,
) -> Finding | None:
    """Return a finding if a metric is no better than the constant answer's, within its error.

    Args:
        metric: The metric.
        name: Its name on this dev set.
        value: Its value for the model.
        error: The standard error of that; None if there are too few examples.
        answer: The constant answer.
        constant: The metric's value for the constant answer.
    """
    if metric.gain(value, constant) > (error or 0):
        return None
    sure = "" if error is None else f" ± {error:.4f}"
    return Finding(
        False,
        f"has {name.replace('_', ' ')} {value:.4f}{sure}, and always answering {answer} has "
        f"{constant:.4f}",
    )


def sentence(findings: Sequence[tuple[int, Finding | None]]) -> str | None:
    """Return a sentence on the seeds that learnt nothing, None if all learnt something.

    Args:
        findings: Each seed with its finding; None if it learnt something.
    """
    found = [(seed, finding) for seed, finding in findings if finding]
    if not found:
        return None
    if len(findings) == 1:
        return f"seed {found[0][0]} {found[0][1]}"
    worst = any(finding.is_untrained for _, finding in found)
    reasons = [f"seed {seed} {finding.why}" for seed, finding in found[:_NAMED]]
    more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    what = _UNTRAINED if worst else _SHOWS_NOTHING
    return f"{len(found)} of {len(findings)} seeds {what}: {'; '.join([*reasons, *more])}"
