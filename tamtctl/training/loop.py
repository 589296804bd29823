"""The training loop: batches, gradients, updates, and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.watching import StepReport
from tamtctl.foundations.working import work

_WARM_UP_STEPS = 5  # first steps that are left out of the measured speed


class HasTokens(Protocol):
    """A batch of known size, which is all that the loop needs to know of it."""

    @property
    def tokens(self) -> int:
        """Number of tokens, without padding."""


AnyBatch = TypeVar("AnyBatch", bound=HasTokens)


@dataclass(frozen=True)
class TrainingRun:
    """A training: steps done, seconds without reports, and tokens per second without padding."""

    steps: int
    seconds: float
    tokens_per_second: float


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Return a seed for one step of one process, in 32 bits as torch's CPU generator takes."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def every_tenth(step: int) -> bool:
    """Return whether to report on a step; between reports nothing waits for the device."""
    return step % 10 == 0


def train(
    *,
    steps: int,
    batches: Iterator[AnyBatch],
    backward: Callable[[AnyBatch], dict[str, Tensor]],
    update: Callable[[int], float],
    flips: Callable[[], float],
    report: Callable[[StepReport], bool | None],
    is_due: Callable[[int], bool] = every_tenth,
    max_seconds: float = math.inf,
    after: StepReport | None = None,
) -> TrainingRun:
    """Run the loop.

    Args:
        steps: Optimiser steps.
        batches: At least as many batches, beginning with that of the first step to do.
        backward: Computes the gradients of a batch, and returns term → mean loss.
        update: Applies the gradients of step ``i`` (from 0) and returns its learning rate.
        flips: Measures the share of flipped mask bits.
        report: Is called after each step that is due and after the last one, with all losses so far
            known to be finite; a true result stops the training.
        is_due: Returns whether to report after step ``i`` (from 1).
        max_seconds: Stop after the step in which so many seconds of training are over; reports, and
            evaluations with them, take none.
        after: Go on after this report of an earlier process.

    Raises:
        DivergedError: The loss is not finite; the message names the step.
    """
    if after and after.is_last:
        return TrainingRun(after.step, after.seconds, after.tokens_per_second)
    if steps == 0:
        return TrainingRun(0, 0.0, 0.0)
    first, clock = (after.step, _Clock(after.seconds)) if after else (0, _Clock())
    pending: list[dict[str, Tensor]] = []
    with work("step", steps, done=first) as advance:
        for step, batch in zip(range(first + 1, steps + 1), batches, strict=False):
            losses = backward(batch)
            if all(loss.device.type == "cpu" for loss in losses.values()):
                _mean_terms([losses], step)  # a GPU would have to wait: there, at reports
            pending.append(losses)
            learning_rate = update(step - 1)
            advance(1)
            clock.tokens += batch.tokens * world().size
            is_last = step == steps
            if max_seconds < math.inf:  # the processes must stop together
                is_last |= world().any(clock.seconds > max_seconds)
            if is_due(step) or is_last:
                terms = _mean_terms(pending, step)
                pending.clear()
                done = TrainingRun(step, clock.seconds, clock.tokens_per_second)
                with clock.paused():
                    told = StepReport(
                        step, steps, terms, learning_rate, flips(),
                        done.tokens_per_second, done.seconds, is_last,
                    )  # fmt: skip
                    is_last |= bool(report(told))
            if is_last:
                break
            if step == first + _WARM_UP_STEPS:
                _mean_terms(pending, step)  # waits until a GPU has done these steps
                clock.count_from_here()
    return done


class _Clock:
    """The seconds of a training, without those in which it is reported on, and its speed.

    Attributes:
        tokens: Tokens since the speed is measured.
    """

    def __init__(self, earlier_seconds: float = 0.0) -> None:
        """Start, after so many seconds in earlier processes."""
        self._earlier_seconds = earlier_seconds
        self._started = self._counted_from = time.perf_counter()
        self.tokens = 0

    @property
    def seconds(self) -> float:
        """Seconds of training since the start."""
        return self._earlier_seconds + time.perf_counter() - self._started

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second since the speed is measured."""
        return self.tokens / (time.perf_counter() - self._counted_from)

    def count_from_here(self) -> None:
        """Measure the speed from here on."""
        self._counted_from, self.tokens = time.perf_counter(), 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that is spent in this context."""
        began = time.perf_counter()
        yield
        spent = time.perf_counter() - began
        self._started += spent
        self._counted_from += spent


def _mean_terms(pending: Sequence[dict[str, Tensor]], step: int) -> dict[str, float]:
    """Return the mean of each term over the last steps, which must all be finite.

    A device is waited for once.
    """
    if not pending:
        return {}
    terms = list(pending[0])
    values = torch.stack([torch.stack([losses[t] for t in terms]) for losses in pending])
    columns = dict(zip(terms, values.T.tolist(), strict=True))
    for term, column in columns.items():
        for at, value in enumerate(column, start=step - len(column) + 1):
            if not math.isfinite(value):
                raise DivergedError(
                    f"the {term} loss became {value} at step {at}; "
                    "try a lower --learning-rate, or --precision fp32"
                )
    return {term: sum(column) / len(column) for term, column in columns.items()}
