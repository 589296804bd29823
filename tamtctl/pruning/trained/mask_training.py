"""Training the mask of one encoder: scores, head and optimiser, and the steps that move them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from tamtctl.data.batches import (
    Batch,
    Blocks,
    Noise,
    evaluation_batches,
    prefetched,
    training_batches,
)
from tamtctl.data.streaming import StreamedText
from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import without_sum, world
from tamtctl.foundations.masks import pack, unpack
from tamtctl.foundations.one_at_a_time import random_numbers
from tamtctl.foundations.watching import StepReport
from tamtctl.foundations.working import counted
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss, held_out_losses
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.trained.folded_weights import FoldedWeights
from tamtctl.training.checkpoints import State
from tamtctl.training.loop import (
    ScoreOptimizer,
    TrainingRun,
    dropout_seed,
    every_tenth,
    linear_decay,
    train,
)

_TIMED_TOKENS = 2048  # a probe large enough to be timed, small enough not to be waited for


class MaskTraining:
    """All that changes while a mask is trained, and what it is trained on.

    Attributes:
        folded: Scores and masks over the frozen weights; the encoder holds W ⊙ m.
        objective: The loss, and the head that trains along.
    """

    def __init__(
        self,
        config: SearchConfig,
        compute: Compute,
        encoder: Encoder,
        text: Blocks | StreamedText,
        initial_masks: Mapping[str, Tensor],
    ) -> None:
        """Fold the initial masks into an encoder that is on its device.

        Args:
            config: The whole search.
            compute: Where and in which precision.
            encoder: Loaded with its head if the objective needs one.
            text: What to train on.
            initial_masks: A mask for every matrix in ``encoder.matrices``, at least.
        """
        self._initial_bits = {
            name: (pack(mask.numpy(force=True)), tuple(mask.shape))
            for name, mask in initial_masks.items()
        }
        frozen_in = cache_dir() if config.low_memory else None
        self.folded = FoldedWeights(
            encoder.matrices, initial_masks, config.sparsity, frozen_in=frozen_in
        )
        self.objective = Objective(encoder, config.objective, self.folded.frozen)
        if config.compile:
            encoder.base.compile()
        elif compute.device.type == "cpu" and world().size == 1:  # most words are in no batch
            cast(nn.Embedding, encoder.base.get_input_embeddings()).sparse = True
        self._noise = Noise.of(encoder.tokenizer) if config.terms.need_noise else None
        self._pretrained_head = _copies(self.objective.head)
        self._config, self._compute, self._text = config, compute, text
        self._model = encoder.model
        self._step = 0  # of them are done
        self._optimizer = ScoreOptimizer(
            [*self.folded.scores.values(), *self.objective.head.values()],
            epsilon=config.adam_epsilon,
            weight_decay=config.weight_decay,
            bias_correction=config.bias_correction,
            clip=config.clip,
            max_grad_norm=config.max_grad_norm,
            low_memory=config.low_memory,
        )

    def run(
        self,
        report: Callable[[StepReport], bool | None],
        *,
        is_due: Callable[[int], bool] = every_tenth,
        after: StepReport | None = None,
    ) -> TrainingRun:
        """Train for the configured steps.

        Args:
            report: As in `tamtctl.training.loop.train`.
            is_due: As there.
            after: Go on after this report, where `state_dict` was taken.
        """
        self._step = after.step if after else 0

        def update(step: int) -> float:
            learning_rate = self._update(step)
            self._step = step + 1
            return learning_rate

        batches = self._batches()
        if self._compute.device.type == "cuda":
            batches = prefetched(batch.pin_memory() for batch in batches)
        return train(
            steps=self._config.steps,
            batches=batches,
            backward=self._backward,
            update=update,
            flips=self.flips,
            report=report,
            is_due=is_due,
            max_seconds=(self._config.max_minutes or math.inf) * 60,
            after=after,
        )

    def state_dict(self) -> State:
        """Return all that the next step depends on, but the step's number."""
        return {
            "folded": self.folded.state_dict(),
            "head": self.objective.head,
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where `state_dict` was taken, with the same model and the same text."""
        self.folded.load_state_dict(state["folded"])
        _copy(state["head"], self.objective.head)
        self._optimizer.load_state_dict(state["optimizer"])

    @contextmanager
    def pretrained_head(self) -> Iterator[None]:
        """Put the pre-trained head into the model for a while, as held-out losses are taken."""
        trained = _copies(self.objective.head)
        _copy(self._pretrained_head, self.objective.head)
        try:
            yield
        finally:
            _copy(trained, self.objective.head)

    def held_out_losses(self, blocks: Blocks) -> dict[str, HeldOutLoss]:
        """Return the loss of each term on held-out text, of the model as it is now folded."""
        batches = evaluation_batches(
            blocks, 16, noise=self._noise, limit=self._config.evaluation_blocks
        )
        return held_out_losses(
            self.objective, batches, self._compute.autocast, self._compute.device
        )

    @property
    def initial_masks(self) -> dict[str, Tensor]:
        """Name → mask that the search started from."""
        return {n: torch.from_numpy(unpack(*packed)) for n, packed in self._initial_bits.items()}

    @property
    def masks(self) -> dict[str, Tensor]:
        """Name → mask as it is now; True keeps."""
        return self.folded.masks

    def flips(self) -> float:
        """Return the share of mask bits that differ from the initial mask."""
        flipped = weights = 0
        for name, mask in self.masks.items():
            initial = unpack(*self._initial_bits[name])
            flipped += int(np.count_nonzero(mask.numpy(force=True) != initial))
            weights += mask.numel()
        return flipped / weights

    def seconds_per_step(self) -> float:
        """Time forward and backward of a few sequences, and scale to a batch."""
        own = next(self._batches())
        rows = max(1, min(len(own.input_ids), _TIMED_TOKENS // self._config.sequence_length))
        batch = own.split(rows)[0]
        for _ in counted(range(2), "timing a step", 2):  # the first one warms up
            started = time.perf_counter()
            self._backward(batch)
            self._compute.synchronize()
            seconds = time.perf_counter() - started
            self._clear_gradients()
        return seconds * len(own.input_ids) / rows

    def _batches(self) -> Iterator[Batch]:
        batches = (
            self._text.training_batches
            if isinstance(self._text, StreamedText)
            else partial(training_batches, self._text)
        )
        return batches(
            self._config.batch_size,
            self._config.seed,
            noise=self._noise,
            start_step=self._step,
            rank=world().rank,
            world_size=world().size,
        )

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        """Leave the gradients of a step behind; return its mean losses, still on the device.

        Every loss is summed and divided by the number of targets in the whole step: micro-batches
        and the slices of the processes differ in their numbers of masked tokens, so a mean of their
        means would be another loss.
        """
        if not self._config.dropout:
            return self._backward_of_parts(batch)
        with random_numbers:  # keyed by the step, so that there is no state to be saved
            torch.manual_seed(dropout_seed(self._config.seed, self._step, world().rank))
            return self._backward_of_parts(batch)

    def _backward_of_parts(self, batch: Batch) -> dict[str, Tensor]:
        device = self._compute.device
        counts = {term: len(blocks) for term, blocks in self.objective.blocks(batch).items()}
        targets = world().totals(counts, device)
        parts = batch.split(self._config.micro_batch_size or self._config.batch_size)
        means: dict[str, Tensor] = {}
        for part in parts:
            is_last = part is parts[-1]
            with self._taking_gradients() if is_last else without_sum(self._losses):
                losses = self._losses(part.to(device), targets)
                torch.stack(list(losses.values())).sum().backward()
            for term, loss in losses.items():
                means[term] = means.get(term, 0) + loss.detach()
        return world().totals(means, device)

    @cached_property
    def _losses(self) -> Callable[[Batch, Mapping[str, int | Tensor]], dict[str, Tensor]]:
        trained = [p for p in self._model.parameters() if p.requires_grad]
        return world().parallel(self._losses_of_part, trained)

    def _losses_of_part(
        self, part: Batch, targets: Mapping[str, int | Tensor]
    ) -> dict[str, Tensor]:
        """Return what a micro-batch contributes to the mean losses of its step."""
        with self._compute.autocast():
            terms = self.objective.terms(part, dropout=self._config.dropout)
        counts = {term: torch.as_tensor(count).clamp(min=1) for term, count in targets.items()}
        return {term: values.sum() / counts[term] for term, values in terms.items()}

    def _taking_gradients(self) -> AbstractContextManager[None]:
        """Return the context for the last backward pass of a step."""
        # Several processes sum their gradients first.
        return nullcontext() if world().size > 1 else self.folded.taking_gradients()

    def _update(self, step: int) -> float:
        """Apply the gradients of a step (from 0); return its learning rate."""
        learning_rate = linear_decay(self._config.learning_rate, step, self.decay_steps)
        self.folded.set_score_gradients()
        self._optimizer.step(learning_rate)
        self.folded.select()
        self._clear_gradients()
        return learning_rate

    @property
    def decay_steps(self) -> int:
        """Steps until the learning rate is 0; the run may be cut before."""
        if not self._config.schedule_epochs or isinstance(self._text, StreamedText):
            return self._config.steps
        epoch = len(self._text) / self._config.batch_size
        return max(math.ceil(self._config.schedule_epochs * epoch), self._config.steps)

    def _clear_gradients(self) -> None:
        self.folded.clear_gradients()
        for parameter in self.objective.head.values():
            parameter.grad = None


def _copies(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
