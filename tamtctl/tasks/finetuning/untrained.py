"""Runs that learnt nothing: how they are told, and the line that says so.

A seed did not train if it gives every dev example the same answer, or if its training loss at the
end is still above 0.95 of the constant answer's (``constant_loss`` of the task's kind). It shows
nothing learnt if its metric is no better than the constant answer's, or better by no more than its
standard error. "At the end" is a moving average over a tenth of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import kind_of
from tamtctl.tasks.kinds.table import Metric
from tamtctl.tasks.task import Task

HARDLY_MOVED = 0.95  # of the constant answer's loss
_NAMED = 3  # seeds whose reasons are given
_UNTRAINED, _SHOWS_NOTHING = "did not train", "did no better than a constant answer"

ADVICE = "try --find-learning-rate, more --epochs, or more examples"
ADVICE_BESIDES = "try more --epochs, or more examples"  # where the rate was looked for


@dataclass(frozen=True)
class Finding:
    """What is wrong with a seed.

    Attributes:
        is_untrained: It did not train; else it only did no better than a constant answer.
        why: A clause whose subject is the seed.
    """

    is_untrained: bool
    why: str

    def __str__(self) -> str:
        return f"{_UNTRAINED if self.is_untrained else _SHOWS_NOTHING}: it {self.why}"


def same_answer(task: Task, values: list[Any], examples: Examples) -> Finding | None:
    """Return a finding if all predictions are one and the same."""
    kind = kind_of(task)
    if len(examples) < 2 or not kind.are_alike(values, examples):
        return None
    value = kind.shared_answer(values)
    what = "about the same number" if isinstance(value, float) else "the same answer"
    return Finding(True, f"gives every dev example {what}, {ConstantAnswer(value)}")


def loss_hardly_moved(loss: float | None, constant: float) -> Finding | None:
    """Return a finding if the training loss ended about where a constant answer's is.

    Args:
        loss: At the end; None if it is not known.
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
    """Return a finding if a metric is the constant answer's, as far as can be told.

    Args:
        metric: Which one.
        name: What it is called on this dev set.
        value: What the model has.
        error: Its standard error; None if there are too few examples to tell.
        answer: The constant answer.
        constant: What that has.
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
    """Return what a run's seeds have come to, None if all of them learnt something.

    Args:
        findings: Seed, and what is wrong with it.
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
