"""Training the mask of one encoder: scores, head and optimiser, and their update in each step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import cast

from torch import Tensor, nn

from tamtctl.data.sequences import Sequences
from tamtctl.data.streaming import StreamedText
from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.watching import StepReport
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.trained.flipped import InitialMasks
from tamtctl.pruning.trained.folded_structures import folded
from tamtctl.pruning.trained.initial_scores import Start
from tamtctl.pruning.trained.objective_steps import ObjectiveSteps, copy_into, optimizer_of
from tamtctl.pruning.trained.reach import warn_of_reach
from tamtctl.training.checkpoints import State
from tamtctl.training.loop import TrainingRun, every_tenth
from tamtctl.training.optimizer import PaperAdamW
from tamtctl.training.schedules import linear_decay


class MaskTraining:
    """The state of a mask training, and its training text.

    Attributes:
        steps: Computes the gradients of the objective; has the head, which trains along.
        folded: Scores and masks over the frozen weights; the encoder holds W ⊙ m.
        initial: The masks that the search starts from.
        warnings: That the steps are too small or too few to change the mask, or slower than they
            could be.
    """

    def __init__(
        self,
        config: SearchConfig,
        compute: Compute,
        encoder: Encoder,
        text: Sequences | StreamedText,
        start: Start,
    ) -> None:
        """Fold the initial masks into an encoder that is on its device.

        Args:
            config: The whole search.
            compute: Device and precision.
            encoder: Loaded with its head if the objective needs one.
            text: The training text.
            start: Initial masks, for at least every matrix in ``encoder.matrices``, and scores.
        """
        self.initial = InitialMasks(start.masks)
        frozen_in = cache_dir() if config.low_memory else None
        self.folded = folded(encoder.matrices, start, frozen_in=frozen_in, pattern=config.pattern)
        self.steps = ObjectiveSteps(config, compute, encoder, text, self.folded.frozen)
        if config.compile:
            encoder.base.compile()
        elif compute.device.type == "cpu" and world().size == 1:  # most words are in no batch
            cast(nn.Embedding, encoder.base.get_input_embeddings()).sparse = True
        self._config = config
        self._head = self.steps.objective.head if config.head_rate else {}
        for parameter in self.steps.objective.head.values():
            parameter.requires_grad_(bool(self._head))
        self._optimizer = self._new_optimizer()
        # Under other patterns, scores in nats have no common threshold to be near to.
        row = find_pattern(config.pattern)
        is_cut = row.is_followed or row.is_structured or start.scores is None
        reach = warn_of_reach(config, self.decay_steps, start.scores) if is_cut else None
        self.warnings = tuple(filter(None, (reach, self.folded.slowness)))

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
            is_due: As in `tamtctl.training.loop.train`.
            after: Go on after this report, from whose step the loaded state is; None: from the
                start.
        """
        return self.steps.run(
            update=self._update,
            flips=self.flips,
            report=report,
            is_due=is_due,
            after=after,
            last_pass=self.taking_gradients,
        )

    def state_dict(self) -> State:
        """Return everything that the next step depends on, except the step's number."""
        return {
            "folded": self.folded.state_dict(),
            "head": self._head,
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state that `state_dict` returned, with the same model and text."""
        self.folded.load_state_dict(state["folded"])
        copy_into(self._head, state["head"])
        self._optimizer.load_state_dict(state["optimizer"])

    @property
    def frozen(self) -> dict[str, Tensor]:
        """Name → pre-trained weight of every matrix that is masked; never written."""
        return self.folded.frozen

    @property
    def masks(self) -> dict[str, Tensor]:
        """Name → current mask; True keeps."""
        return self.folded.masks

    def flips(self) -> float:
        """Return the share of mask bits that differ from the initial mask."""
        return self.initial.flips(self.masks)

    def seconds_per_step(self) -> float:
        """Return the seconds of a step, estimated from a few sequences; nothing is changed."""
        update = partial(self._apply, self._new_optimizer(), learning_rate=0.0)
        return self.steps.seconds_per_step(update, self.taking_gradients)

    @property
    def decay_steps(self) -> int:
        """Steps until the learning rate is 0; the run may be shorter."""
        return self.steps.decay_steps(self._config.steps)

    def taking_gradients(self) -> AbstractContextManager[None]:
        """Return the context for the last backward pass of a step."""
        # Several processes sum their gradients before they are turned into those of scores.
        return nullcontext() if world().size > 1 else self.folded.taking_gradients()

    def _new_optimizer(self) -> PaperAdamW:
        scores, head = list(self.folded.scores.values()), list(self._head.values())
        head_rate = self._config.head_rate / self._config.learning_rate
        rates = [1.0] * len(scores) + [head_rate] * len(head)
        return optimizer_of(self._config, [*scores, *head], rates)

    def _update(self, step: int) -> float:
        """Apply the gradients of a step (from 0); return its learning rate."""
        learning_rate = linear_decay(self._config.learning_rate, step, self.decay_steps)
        self._apply(self._optimizer, learning_rate)
        return learning_rate

    def _apply(self, optimizer: PaperAdamW, learning_rate: float) -> None:
        """Apply the gradients of a step, and forget them."""
        self.folded.set_score_gradients()
        optimizer.step(learning_rate)
        self.folded.select()
        self.folded.clear_gradients()
        for parameter in self._head.values():
            parameter.grad = None
