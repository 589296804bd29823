"""Iterative magnitude pruning: train all weights, prune the smallest, rewind, repeat (TAMT, §2).

Each cut prunes a tenth of the original weights of every matrix; the first one precedes all
training. Between two cuts the whole model is trained on masked language modelling. The trained
weights only say what to prune next: afterwards the remaining weights are reset to their pre-trained
values, and optimiser and schedule start over, so that a cut hands on nothing but its mask.

    train     W' ← Adam(W', dL/dW'), starting from W ⊙ m; pruned weights stay 0
    cut       m ← the largest |W'| among the weights in m, a tenth of all weights fewer
    rewind    W' ← W ⊙ m
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from tamtctl.data.sequences import Sequences
from tamtctl.data.streaming import StreamedText
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.watching import StepReport
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.trained.flipped import InitialMasks
from tamtctl.pruning.trained.folded_weights import fold
from tamtctl.pruning.trained.initial_scores import Start
from tamtctl.pruning.trained.objective_steps import ObjectiveSteps, copies, optimizer_of
from tamtctl.training.checkpoints import State
from tamtctl.training.loop import TrainingRun, every_tenth
from tamtctl.training.masked_gradients import MaskedGradients
from tamtctl.training.optimizer import PaperAdamW
from tamtctl.training.schedules import linear_decay


class IterativePruning:
    """The state of a model that is trained and pruned in turns, and its training text.

    The masked-LM decoder, which no mask covers, trains as a matrix of its own.

    Attributes:
        steps: Computes the gradients of the objective, which is masked language modelling.
        parameters: Name → the model's own matrix; during training it holds W'.
        frozen: Name → W, its pre-trained weights; never written.
        masks: Name → m, the mask of the last cut; True keeps.
        initial: The masks of magnitude, which flips are counted from.
    """

    def __init__(
        self,
        config: SearchConfig,
        compute: Compute,
        encoder: Encoder,
        text: Sequences | StreamedText,
        start: Start,
    ) -> None:
        """Make the first cut in an encoder that is on its device.

        Args:
            config: The whole search.
            compute: Device and precision.
            encoder: Loaded with its masked-LM head.
            text: The training text.
            start: Masks that flips are counted from, for at least every matrix, and how many
                weights are kept after each cut.
        """
        self.initial = InitialMasks(start.masks)
        self.parameters = dict(encoder.matrices)
        self.frozen = copies(self.parameters)
        self.steps = ObjectiveSteps(config, compute, encoder, text, self.frozen)
        self._config, self._device = config, compute.device
        assert config.prune_every is not None  # checked in SearchConfig
        self._interval = config.prune_every
        self._cuts = start.cuts
        self._weights = _all_trainable(encoder.model, self.frozen)
        matrices = {id(parameter) for parameter in self.parameters.values()}
        self._others = [
            (weight, weight.detach().clone())
            for weight in self._weights
            if id(weight) not in matrices
        ]
        self.masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self.frozen.items()}
        self._rewind()
        self._cut(self._cuts[0])

    def run(
        self,
        report: Callable[[StepReport], bool | None],
        *,
        is_due: Callable[[int], bool] = every_tenth,
        after: StepReport | None = None,
    ) -> TrainingRun:
        """Train and cut until the sparsity is reached; afterwards all weights are rewound."""
        try:
            return self.steps.run(
                update=self._update, flips=self.flips, report=report, is_due=is_due, after=after
            )
        finally:
            self._rewind()

    def state_dict(self) -> State:
        """Return everything that the next step depends on, except the step's number."""
        return {
            "weights": {str(i): weight for i, weight in enumerate(self._weights)},
            "masks": self.masks,
            "optimizer": self._optimizer.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        """Go on from a state that `state_dict` returned, with the same model and text."""
        for i, weight in enumerate(self._weights):
            weight.copy_(state["weights"][str(i)])
        self._keep_only({n: m.to(self._device) for n, m in state["masks"].items()})
        self._optimizer.load_state_dict(state["optimizer"])

    def flips(self) -> float:
        """Return the share of mask bits that differ from the initial mask."""
        return self.initial.flips(self.masks)

    def seconds_per_step(self) -> float:
        """Return the seconds of a step, estimated from a few sequences; nothing is changed."""
        optimizer = optimizer_of(self._config, self._weights)
        return self.steps.seconds_per_step(partial(self._apply, optimizer, learning_rate=0.0))

    def _update(self, step: int) -> float:
        """Apply the gradients of a step (from 0), and cut at the end of every interval."""
        cuts_since, place = divmod(step, self._interval)
        learning_rate = linear_decay(self._config.learning_rate, place, self.decay_steps)
        self._apply(self._optimizer, learning_rate)
        if place + 1 == self._interval:
            self._cut(self._cuts[cuts_since + 1])
        return learning_rate

    def _apply(self, optimizer: PaperAdamW, learning_rate: float) -> None:
        """Apply the gradients of a step to the weights that are kept, and forget them."""
        self._gradients.apply()
        optimizer.step(learning_rate)
        for weight in self._weights:
            weight.grad = None

    def _cut(self, keep: Mapping[str, int]) -> None:
        """Prune the smallest of the remaining weights, and start over from the rest."""
        pattern = find_pattern(self._config.pattern)
        # Pruned weights rank below all remaining ones, even those that are 0.
        sizes = {
            name: parameter.detach().abs().where(self.masks[name], -torch.ones(()))
            for name, parameter in self.parameters.items()
        }
        self._keep_only(pattern.select(sizes, {name: keep[name] for name in sizes}))
        if self._config.rewind == "weights":
            self._rewind()
        else:
            fold(self.parameters, {n: p.detach() for n, p in self.parameters.items()}, self.masks)
        self._start_over()

    def follow(self, masks: Mapping[str, Tensor]) -> None:
        """Go on from the masks of an earlier run's last cut; weights must be rewound at cuts."""
        self._keep_only({n: masks[n].to(self._device) for n in self.parameters})
        self._rewind()
        self._start_over()

    def _start_over(self) -> None:
        """Forget the moments of the last interval."""
        self._optimizer = optimizer_of(self._config, self._weights)

    def _keep_only(self, masks: Mapping[str, Tensor]) -> None:
        self.masks = dict(masks)
        self._gradients = MaskedGradients(self.parameters, masks)

    @torch.no_grad()
    def _rewind(self) -> None:
        """Reset every weight to its pre-trained value, or to 0 if it is pruned."""
        fold(self.parameters, self.frozen, self.masks)
        for weight, pretrained in self._others:
            weight.copy_(pretrained)

    @property
    def decay_steps(self) -> int:
        """Steps until the learning rate of an interval is 0; the interval may be shorter."""
        return self.steps.decay_steps(self._interval)


def _all_trainable(model: nn.Module, frozen: Mapping[str, Tensor]) -> list[nn.Parameter]:
    """Make every parameter trainable; one that shares memory with a frozen weight is copied."""
    held = {weight.data_ptr() for weight in frozen.values()}
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        if parameter.data_ptr() in held:
            parameter.data = parameter.data.clone()
    for module in model.modules():
        if isinstance(module, nn.Embedding):  # weights need dense gradients
            module.sparse = False
    return list(model.parameters())
