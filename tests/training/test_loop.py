"""The training loop counts the seconds of training, and no others."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.watching import StepReport
from tamtctl.training.loop import TrainingRun, train

STEPS, PAUSE = 12, 0.05  # seconds of a report, far more than of a step that does nothing


@dataclass(frozen=True)
class Batch:
    tokens: int = 100


def trained(
    losses: list[float], reports: list[StepReport], *, after: StepReport | None = None
) -> TrainingRun:
    """Train without doing anything, and report on every step for longer than training may take."""
    values = iter(losses)

    def backward(batch: Batch) -> dict[str, Tensor]:
        loss = next(values)
        return {"kd": torch.tensor(0.0), "mlm": torch.tensor(loss)}

    def report(told: StepReport) -> None:
        reports.append(told)
        time.sleep(PAUSE)

    return train(
        steps=STEPS,
        batches=itertools.repeat(Batch()),
        backward=backward,
        update=lambda step: 0.1,
        flips=lambda: 0.0,
        report=report,
        is_due=lambda step: True,
        max_seconds=STEPS * PAUSE / 2,
        after=after,
    )


def test_reports_take_no_time_of_the_training() -> None:
    reports: list[StepReport] = []
    done = trained([1.0] * STEPS, reports)
    assert done.steps == STEPS
    assert done.seconds < STEPS * PAUSE / 2
    assert [told.step for told in reports] == list(range(1, STEPS + 1))
    assert all(told.tokens_per_second > Batch().tokens / PAUSE for told in reports)


def test_earlier_seconds_count() -> None:
    reports: list[StepReport] = []
    late = StepReport(3, STEPS, {}, 0.1, 0.0, 1.0, seconds=STEPS * PAUSE, is_last=False)
    done = trained([1.0] * STEPS, reports, after=late)
    assert [told.step for told in reports] == [4]
    assert done.seconds > late.seconds


@pytest.mark.parametrize("step", [1, 7])
def test_a_loss_that_is_no_number_is_named_with_its_step(step: int) -> None:
    losses = [1.0] * STEPS
    losses[step - 1] = float("nan")
    with pytest.raises(DivergedError, match=f"the mlm loss became nan at step {step};"):
        trained(losses, [])
