"""The training loop: gradients, clipping, the paper's Adam, a linear schedule, and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.watching import StepReport
from tamtctl.foundations.working import work

BETA1, BETA2 = 0.9, 0.999  # Adam's, as in the paper
_WARM_UP_STEPS = 5  # first steps that are left out of the measured speed
_PIECE = 2**20  # weights updated at once with low memory, few enough for the processor's cache


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


class PaperAdamW:
    """The paper's Adam over scores and head, on torch's fused AdamW.

    The paper's AdamW adds epsilon outside the bias correction, torch's inside. Gradients of scores
    are so small that this makes a difference for a tenth of them. Scaling torch's epsilon at every
    step gives the paper's update. Without bias correction (the paper's KD), the learning rate is
    scaled, too, and the weight decay inversely.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        epsilon: float,
        weight_decay: float,
        bias_correction: bool,
        clip: str,
        max_grad_norm: float,
        low_memory: bool = False,
        rates: Sequence[float] | None = None,
    ) -> None:
        """Prepare to update parameters.

        Args:
            parameters: Tensors that are updated in place, by their ``grad``.
            epsilon: Adam's epsilon, as in the paper's formula.
            weight_decay: Decoupled weight decay.
            bias_correction: Whether the moments are corrected for their bias.
            clip: Which norm is clipped: ``global``, of all gradients, or ``per-tensor``.
            max_grad_norm: The norm to clip to.
            low_memory: Keep first moments in bfloat16, on a CPU. Second moments stay in float32: a
                step changes them by a thousandth, which bfloat16 would round away.
            rates: Factor of the learning rate for each parameter; None: 1 for all.
        """
        self._parameters = list(parameters)
        self._rates = [1.0] * len(self._parameters) if rates is None else list(rates)
        self._epsilon, self._weight_decay = epsilon, weight_decay
        self._bias_correction = bias_correction
        self._clip, self._max_grad_norm = clip, max_grad_norm
        self._low_memory = low_memory
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}  # parameter's index → first, second
        self._step = 0

    def step(self, learning_rate: float) -> None:
        """Clip the gradients, and update the parameters."""
        self._step += 1
        divisor = self._clipped()
        first = 1 - BETA1**self._step
        second = math.sqrt(1 - BETA2**self._step)
        scale = 1.0 if self._bias_correction else first / second
        for rate in dict.fromkeys(self._rates):
            update = partial(
                adamw,
                max_exp_avg_sqs=[],
                fused=True,
                grad_scale=divisor,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=learning_rate * rate * scale,
                weight_decay=self._weight_decay / scale,
                eps=self._epsilon / second,
                maximize=False,
            )
            with torch.no_grad():
                if self._low_memory:
                    self._update_in_pieces(update, rate)
                else:
                    self._update_at_once(update, rate)

    def _clipped(self) -> Tensor | None:
        """Clip the gradients, or return their divisor for the kernel, which saves a pass."""
        if self._clip == "per-tensor":
            for parameter in self._parameters:
                torch.nn.utils.clip_grad_norm_(parameter, self._max_grad_norm)
            return None
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        return ((norm + 1e-6) / self._max_grad_norm).clamp(min=1.0).float()

    def _update_at_once(self, update: Callable[..., None], rate: float) -> None:
        found = list(self._with_gradients(rate))
        if not found:
            return
        parameters, gradients, firsts, seconds = map(list, zip(*found, strict=True))
        steps = torch.full([len(found)], self._step - 1.0, device=parameters[0].device)
        update(parameters, gradients, firsts, seconds, state_steps=list(steps))

    def _update_in_pieces(self, update: Callable[..., None], rate: float) -> None:
        """Update piece by piece, with the first moments of a piece in float32 for the kernel."""
        for tensors in self._with_gradients(rate):
            for piece in zip(*(t.view(-1).split(_PIECE) for t in tensors), strict=True):
                parameter, gradient, stored, second = piece
                first = stored.float()
                step = torch.full((), self._step - 1.0)
                update([parameter], [gradient], [first], [second], state_steps=[step])
                stored.copy_(first)

    def _with_gradients(self, rate: float) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield parameter, gradient, first and second moment, for parameters of this rate."""
        first_type = torch.bfloat16 if self._low_memory else None
        for i, parameter in enumerate(self._parameters):
            if parameter.grad is None or self._rates[i] != rate:
                continue
            if i not in self._moments:
                first = torch.zeros_like(parameter, dtype=first_type)
                self._moments[i] = first, torch.zeros_like(parameter)
            yield parameter, parameter.grad, *self._moments[i]

    def state_dict(self) -> dict[str, Tensor]:
        """Return name → tensor of everything the next step depends on, besides the parameters."""
        state = {"step": torch.tensor(self._step)}
        for i, (first, second) in self._moments.items():
            state |= {f"{i}.exp_avg": first, f"{i}.exp_avg_sq": second}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state_dict` returned, with the same parameters."""
        self._step = int(state["step"])
        for i, parameter in enumerate(self._parameters):
            if f"{i}.exp_avg" in state:
                moments = (state[f"{i}.{name}"] for name in ("exp_avg", "exp_avg_sq"))
                first, second = (moment.to(parameter.device, copy=True) for moment in moments)
                self._moments[i] = first, second


def linear_decay(peak: float, step: int, steps: int) -> float:
    """Return the learning rate of a step (from 0): linear from the peak to 0, no warm-up."""
    return peak * max(0.0, 1 - step / steps)


def warmed_up(peak: float, step: int, steps: int, warm_up_steps: int) -> float:
    """Return the learning rate of a step (from 0): rising linearly to the peak, then falling to 0.

    Without warm-up steps it equals `linear_decay`.
    """
    if step < warm_up_steps:
        return peak * (step + 1) / warm_up_steps
    return linear_decay(peak, step - warm_up_steps, steps - warm_up_steps)


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
