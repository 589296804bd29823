"""Steps of a training on an objective: the batches, and the gradients of each.

The caller decides what the gradients train: scores in mask training, the weights themselves in all
other trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial

import torch
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.data.batches import made_ahead
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Sequences
from tamtctl.data.streaming import StreamedText, batches_of
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import without_sum, world
from tamtctl.foundations.one_at_a_time import random_state_lock
from tamtctl.foundations.watching import StepReport
from tamtctl.foundations.working import counted
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.training.loop import TrainingRun, dropout_seed, train
from tamtctl.training.optimizer import PaperAdamW

_TIMED_TOKENS = 2048  # large enough to be timed, small enough to be quick


class ObjectiveSteps:
    """The steps of a training, without the update.

    Attributes:
        objective: The loss, with the masked-LM head.
        text: The training text.
    """

    def __init__(
        self,
        config: SearchConfig,
        compute: Compute,
        encoder: Encoder,
        text: Sequences | StreamedText,
        frozen: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Prepare an encoder that is on its device.

        Args:
            config: The whole search.
            compute: Device and precision.
            encoder: Loaded with its head if the objective needs one.
            text: The training text.
            frozen: Name → pre-trained weight of every matrix in ``encoder.matrices``.
            teacher: Name → weight of the encoder when it acts as the teacher; by default
                ``frozen``, which suffices unless other weights are trained, too.
        """
        self.objective = Objective(encoder, config.objective, frozen, teacher)
        self.text = text
        self._config, self._compute, self._model = config, compute, encoder.model
        self._noise = Noise.of(encoder.tokenizer) if config.terms.need_noise else None
        self._pretrained_head = copies(self.objective.head)
        self._step = 0  # steps done

    def run(
        self,
        *,
        update: Callable[[int], float],
        flips: Callable[[], float],
        report: Callable[[StepReport], bool | None],
        is_due: Callable[[int], bool],
        after: StepReport | None,
        last_pass: Callable[[], AbstractContextManager[None]] = nullcontext,
        steps: int | None = None,
    ) -> TrainingRun:
        """Train for the configured steps.

        Args:
            update: Applies the gradients of a step, see `tamtctl.training.loop.train`.
            flips: As in `tamtctl.training.loop.train`.
            report: As in `tamtctl.training.loop.train`.
            is_due: As in `tamtctl.training.loop.train`.
            after: As in `tamtctl.training.loop.train`.
            last_pass: Returns a context for the last backward pass of a step.
            steps: Optimiser steps; None: as configured.
        """
        self._step = after.step if after else 0

        def updated(step: int) -> float:
            learning_rate = update(step)
            self._step = step + 1
            return learning_rate

        return train(
            steps=self._config.steps if steps is None else steps,
            batches=made_ahead(self.batches(), self._compute.device),
            backward=lambda batch: self.backward(batch, last_pass),
            update=updated,
            flips=flips,
            report=report,
            is_due=is_due,
            max_seconds=(self._config.max_minutes or math.inf) * 60,
            after=after,
        )

    def seconds_per_step(
        self,
        update: Callable[[], None],
        last_pass: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> float:
        """Return the seconds of a step, estimated from a few sequences of its batch.

        Args:
            update: Takes as long as applying the gradients, and changes nothing but them.
            last_pass: As in `run`.
        """
        own = next(self.batches())
        rows = max(1, min(len(own.input_ids), _TIMED_TOKENS // own.input_ids.shape[1]))
        if self._config.compile:  # every shape is compiled anew
            rows = min(len(own.input_ids), self._config.micro_batch_size or self._config.batch_size)
        batch = own.split(rows)[0]
        for _ in counted(range(2), "timing a step", 2):  # the first one warms up
            backward = self._compute.seconds_of(lambda: self.backward(batch, last_pass))
            updating = self._compute.seconds_of(update)
        scale = len(own.input_ids) / rows * self._usual_length(own) / _length(batch)
        return backward * scale + updating

    def _usual_length(self, batch: Batch) -> float:
        """Return the mean tokens of a sequence: of the whole text, unless it is streamed."""
        if isinstance(self.text, StreamedText):
            return _length(batch)
        return _length(batch) if self.text.lengths is None else float(self.text.lengths.mean())

    def decay_steps(self, steps: int) -> int:
        """Return the steps until the learning rate is 0, at least ``steps``."""
        if not self._config.schedule_epochs or isinstance(self.text, StreamedText):
            return steps
        epoch = len(self.text) / self._config.batch_size
        return max(math.ceil(self._config.schedule_epochs * epoch), steps)

    @contextmanager
    def pretrained_head(self) -> Iterator[None]:
        """Put the pre-trained head into the model in this context, for held-out losses."""
        trained = copies(self.objective.head)
        copy_into(self.objective.head, self._pretrained_head)
        try:
            yield
        finally:
            copy_into(self.objective.head, trained)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches from the next step on; of several processes, only this one's slices."""
        return batches_of(self.text)(
            self._config.batch_size,
            self._config.seed,
            noise=self._noise,
            start_step=self._step,
            rank=world().rank,
            world_size=world().size,
        )

    def backward(
        self, batch: Batch, last_pass: Callable[[], AbstractContextManager[None]]
    ) -> dict[str, Tensor]:
        """Compute the gradients of a step; return term → mean loss, still on the device.

        Args:
            batch: The batch of the step, on the CPU.
            last_pass: Gives the context for the last backward pass.

        Every loss is summed and divided by the number of targets in the whole step: micro-batches
        and the slices of the processes differ in their numbers of masked tokens, so a mean of their
        means would be another loss.
        """
        if not self._config.dropout:
            return self._backward_of_parts(batch, last_pass)
        with random_state_lock:  # seeded by the step, so that no state has to be saved
            torch.manual_seed(dropout_seed(self._config.seed, self._step, world().rank))
            return self._backward_of_parts(batch, last_pass)

    def _backward_of_parts(
        self, batch: Batch, last_pass: Callable[[], AbstractContextManager[None]]
    ) -> dict[str, Tensor]:
        device = self._compute.device
        counts = {term: len(blocks) for term, blocks in self.objective.blocks(batch).items()}
        targets = world().totals(counts, device)
        parts = batch.split(self._config.micro_batch_size or self._config.batch_size)
        means: dict[str, Tensor] = {}
        for part, others in zip(parts, self._others(parts), strict=True):
            is_last = part is parts[-1]
            with last_pass() if is_last else without_sum(self._losses):
                losses = self._losses(part.to(device), targets, others)
                torch.stack(list(losses.values())).sum().backward()
            for term, loss in losses.items():
                means[term] = means.get(term, 0) + loss.detach()
        return world().totals(means, device)

    def _others(self, parts: Sequence[Batch]) -> Sequence[tuple[Tensor, Tensor] | None]:
        """Return for each micro-batch the embeddings of the other rows of the step, see `Outputs`.

        None if no term compares rows, or if one micro-batch is the whole step.
        """
        if not self._config.terms.compare_rows or (len(parts) == 1 and world().size == 1):
            return [None] * len(parts)
        with self._compute.autocast():
            found = [self.objective.embeddings(part.to(self._compute.device)) for part in parts]
        columns = (torch.cat(column) for column in zip(*found, strict=True))
        (student, start), (teacher, _) = map(world().gathered, columns)
        others = []
        for part in parts:
            end = start + len(part.input_ids)
            others.append((_without(student, start, end), _without(teacher, start, end)))
            start = end
        return others

    @cached_property
    def _losses(self) -> Callable[..., dict[str, Tensor]]:
        trained = [p for p in self._model.parameters() if p.requires_grad]
        # Not a method: a cycle would keep the model in memory until Python's collector runs.
        return world().parallel(
            partial(_losses_of_part, self.objective, self._config, self._compute), trained
        )


def _losses_of_part(
    objective: Objective,
    config: SearchConfig,
    compute: Compute,
    part: Batch,
    targets: Mapping[str, int | Tensor],
    others: tuple[Tensor, Tensor] | None,
) -> dict[str, Tensor]:
    """Return term → contribution of a micro-batch to the mean loss of its step."""
    with compute.autocast():
        terms = objective.terms(part, dropout=config.dropout, others=others)
    counts = {term: torch.as_tensor(count).clamp(min=1) for term, count in targets.items()}
    return {term: values.sum() / counts[term] for term, values in terms.items()}


def _without(rows: Tensor, start: int, end: int) -> Tensor:
    return torch.cat([rows[:start], rows[end:]])


def _length(batch: Batch) -> float:
    return batch.tokens / len(batch.input_ids)


def optimizer_of(
    config: SearchConfig, parameters: Sequence[Tensor], rates: Sequence[float] | None = None
) -> PaperAdamW:
    """Return the optimiser of a search.

    Args:
        config: The whole search.
        parameters: The tensors that it trains.
        rates: As in `PaperAdamW`.
    """
    return PaperAdamW(
        parameters,
        epsilon=config.adam_epsilon,
        weight_decay=config.weight_decay,
        bias_correction=config.bias_correction,
        clip=config.clip,
        max_grad_norm=config.max_grad_norm,
        low_memory=config.low_memory,
        rates=rates,
    )


def copies(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return name → copy of a parameter's values."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@torch.no_grad()
def copy_into(parameters: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Give parameters the values of the same names in ``source``, in place."""
    for name, parameter in parameters.items():
        parameter.copy_(source[name])
