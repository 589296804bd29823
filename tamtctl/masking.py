"""The method: learn a score per weight, keep the weights with the largest scores (TAMT, §3.2).

The pre-trained weights W stay frozen. Each has a score S; a mask m keeps, in every matrix, exactly
the weights whose scores are largest, and the model computes with W ⊙ m. Selection has no gradient,
so the score takes the one of its mask bit (straight-through):

    forward     y = f(W ⊙ m)
    backward    dL/dS = dL/d(W ⊙ m) ⊙ W         also for pruned weights
    update      S ← Adam(S, dL/dS)
    select      m = 1[S among the n − ⌊n·sparsity⌋ largest of its matrix]

What makes it fast is *folding*: the model is an unmodified transformers model whose own
parameters hold W ⊙ m. Forward and backward run on stock code at dense speed, and all that is
special happens once per optimiser step, here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor, nn

from tamtctl.errors import DivergedError

# Initial score of a kept weight; a pruned one starts at 0 (TAMT, appendix A).
KEPT_SCORE = 0.02


class FoldedWeights:
    """Scores over frozen weights, folded into the parameters of a live model.

    Attributes:
        parameters: The model's own parameters; they hold W ⊙ m.
        frozen: W, the pre-trained weights; never written.
        scores: S, what training updates.
        masks: m, boolean; True keeps. All four map name → tensor of the matrix's shape.
        keep: Number of weights each matrix keeps; the same before and after every step.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        initial_masks: Mapping[str, Tensor],
        sparsity: float,
    ) -> None:
        self.parameters = dict(parameters)
        self.frozen = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.scores = {
            name: KEPT_SCORE * initial_masks[name].to(weight.device, weight.dtype)
            for name, weight in self.frozen.items()
        }
        self.keep = {name: keep_count(w.numel(), sparsity) for name, w in self.frozen.items()}
        self._thresholds = dict.fromkeys(self.parameters, KEPT_SCORE / 2)
        self.masks: dict[str, Tensor] = {}
        self.select()

    def set_score_gradients(self) -> None:
        """Turn each parameter's gradient into its score's, in place: dL/dS = dL/d(W ⊙ m) ⊙ W."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                self.scores[name].grad = parameter.grad.mul_(self.frozen[name])

    def clear_gradients(self) -> None:
        """Forget the gradients of parameters and scores, which share their memory."""
        for name, parameter in self.parameters.items():
            parameter.grad = self.scores[name].grad = None

    def select(self) -> None:
        """Keep the largest scores of every matrix, exactly as many as before, and fold them in."""
        for name, scores in self.scores.items():
            mask = scores > self._thresholds[name]
            if int(mask.sum()) != self.keep[name]:  # else the last threshold still separates them
                threshold = kth_smallest(scores, scores.numel() - self.keep[name])
                if math.isnan(threshold):
                    raise DivergedError(
                        f"the scores of {name} are no longer numbers; "
                        "try a lower --learning-rate, or --precision fp32"
                    )
                self._thresholds[name] = threshold
                mask = keep_largest(scores, self.keep[name], among_equals=self.frozen[name].abs())
            self.masks[name] = mask
        fold(self.parameters, self.frozen, self.masks)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the masks follow from, name → tensor; the frozen weights are not part."""
        return dict(self.scores)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned, in place, and fold its masks in."""
        for name, scores in self.scores.items():
            scores.copy_(state[name])
        self.select()


def fold(
    parameters: Mapping[str, nn.Parameter],
    frozen: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> None:
    """Write W ⊙ m into the parameters, in place: whoever holds a parameter sees the new weights."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            weight = frozen[name]
            torch.where(masks[name], weight, weight.new_zeros(()), out=parameter)


def keep_count(numel: int, sparsity: float) -> int:
    """Return how many of ``numel`` weights a sparsity keeps: numel − ⌊numel · sparsity⌋.

    The product is taken in decimal: in binary, 100 · 0.29 would prune 28.
    """
    return numel - int(numel * Decimal(repr(float(sparsity))))


def keep_largest(values: Tensor, keep: int, among_equals: Tensor | None = None) -> Tensor:
    """Return the mask of exactly ``keep`` largest values, of the shape of ``values``.

    Equal values are the normal case: the scores of a vocabulary row that never occurs never move.
    Among them the larger ``among_equals`` is kept, and then the lower flat index.
    """
    flat = values.flatten()  # (n,)
    if keep == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if keep == flat.numel():
        return torch.ones_like(values, dtype=torch.bool)
    threshold = kth_smallest(flat, flat.numel() - keep)  # the largest value to prune
    mask = flat > threshold
    if missing := keep - int(mask.sum()):
        tied = (flat == threshold).nonzero().squeeze(1)  # ascending flat indices
        if among_equals is not None:
            tied = tied[keep_largest(among_equals.flatten()[tied], missing)]
        mask[tied[:missing]] = True
    return mask.view_as(values)


def kth_smallest(values: Tensor, k: int) -> float:
    """Return the k-th smallest value, k from 1."""
    if values.device.type == "cpu":  # torch's own takes ten times as long on a CPU
        return float(np.partition(values.numpy(force=True).ravel(), k - 1)[k - 1])
    return float(values.flatten().kthvalue(k).values)
