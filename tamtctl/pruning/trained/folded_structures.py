"""Mask training for structures, whose weights are kept or pruned together: one score for each.

All else is as in `tamtctl.pruning.trained.folded_weights`. All weights of a structure u have its
mask bit, so that its gradient is the sum of theirs:

    backward    dL/dS_u = Σ_{w in u} dL/d(w · m) · w        also for pruned structures
    select      m = 1[S_u among the k largest of its group]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tamtctl.foundations.selection import keep_largest
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.patterns.structured import kept_of, kept_structures, spread, summed, sums
from tamtctl.pruning.trained.folded_weights import FoldedWeights
from tamtctl.pruning.trained.initial_scores import KEPT_SCORE, Start


class FoldedStructures(FoldedWeights):
    """Scores of structures, whose masks are folded into the parameters of a live model.

    Attributes:
        scores: Group → score of each of its structures, shape (structures,); see
            `tamtctl.models.structures`.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        start: Start,
        *,
        pattern: str,
        frozen_in: Path | None = None,
    ) -> None:
        """Fold initial masks into parameters, which hold the pre-trained weights.

        Args:
            parameters: Name → parameter of every matrix.
            start: As for `FoldedWeights`, but with scores of structures.
            pattern: A pattern that is structured.
            frozen_in: As for `FoldedWeights`.
        """
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        self._structures = find_pattern(pattern).structures(shapes)
        self._place = {
            one.matrix: (group, one) for group, slices in self._structures.items() for one in slices
        }
        super().__init__(parameters, start, frozen_in=frozen_in, pattern=pattern)

    def _initial_scores(self, start: Start) -> dict[str, Tensor]:
        weight = next(iter(self.frozen.values()))
        sizes = sums(self._structures, {name: w.abs() for name, w in self.frozen.items()})
        self._sizes = sizes  # breaks ties: the larger structure is kept
        self._counts = kept_of(self._structures, self.keep)
        if start.scores is None:
            kept = kept_structures(self._structures, start.masks)
            return {n: KEPT_SCORE * one.to(weight.device, weight.dtype) for n, one in kept.items()}
        return {n: start.scores[n].to(weight.device, weight.dtype) for n in self._structures}

    @torch.no_grad()
    def _take_gradient(self, name: str, parameter: Tensor) -> None:
        place, gradient = parameter.detach(), parameter.grad
        assert gradient is not None
        torch.mul(gradient, self.frozen[name], out=place)
        group, slices = self._place[name]
        scores, own = self.scores[group], summed(slices, place)
        scores.grad = own if scores.grad is None else scores.grad + own
        parameter.grad = None

    def clear_gradients(self) -> None:
        """Forget the gradients of parameters and scores."""
        for name, parameter in self.parameters.items():
            parameter.grad = None
            if self.scores[self._place[name][0]].grad is not None:
                self._fold(name)
        for scores in self.scores.values():
            scores.grad = None

    def select(self) -> None:
        """Select the largest scores of every group, as many as before, and fold the masks in."""
        self._look_for_numbers()
        for group, slices in self._structures.items():
            scores = self.scores[group]
            scores.grad = None
            kept = keep_largest(scores, self._counts[group], self._sizes[group])
            self._selected |= {one.matrix: spread(one, kept) for one in slices}
        for name in self.parameters:
            self._fold(name)


def folded(
    parameters: Mapping[str, nn.Parameter],
    start: Start,
    *,
    frozen_in: Path | None = None,
    pattern: str,
) -> FoldedWeights:
    """Return the scores of a pattern, per weight or per structure, folded into parameters.

    Args:
        parameters: Name → parameter of every matrix.
        start: Masks for at least these matrices, how many weights they keep, and scores.
        frozen_in: Folder for a file that holds the frozen weights; on a CPU only. None: in memory.
        pattern: Which sets of weights may be kept, a name on the shelf of patterns.
    """
    kind = FoldedStructures if find_pattern(pattern).is_structured else FoldedWeights
    return kind(parameters, start, frozen_in=frozen_in, pattern=pattern)
