"""The method: learn a score per weight, keep the weights with the largest scores (TAMT, §3.2).

The pre-trained weights W stay frozen. Each weight has a score S. In every matrix, the mask m keeps
exactly the weights with the largest scores, and the model computes with W ⊙ m. Selection has no
gradient, so a score takes the gradient of its mask bit (straight-through):

    forward     y = f(W ⊙ m)
    backward    dL/dS = dL/d(W ⊙ m) ⊙ W         also for pruned weights
    update      S ← Adam(S, dL/dS)
    select      m = 1[S among the k largest of its matrix], k = n − ⌊n·sparsity⌋ if all are alike

What makes it fast is *folding*: the model is an unmodified transformers model whose own
parameters hold W ⊙ m. Forward and backward run on stock code at dense speed; only this module's
work, once per optimiser step, is special.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.selection import Cut, keep_largest
from tamtctl.foundations.untrusted import reason
from tamtctl.pruning.patterns import UNSTRUCTURED, find_pattern
from tamtctl.pruning.trained.initial_scores import KEPT_SCORE, Start

if TYPE_CHECKING:
    from tamtctl.pruning.trained.gpu_selection import GpuSelection


class FoldedWeights:
    """Scores of frozen weights, whose masks are folded into the parameters of a live model.

    Between the backward pass and the end of the step, where W ⊙ m is written into it again, a
    parameter of the model is not read. In between its memory holds the gradient of its scores, so
    that a step needs no second buffer of the model's size, unless a GPU selects all masks at once.

    Attributes:
        parameters: The model's own parameters; they hold W ⊙ m.
        frozen: W, the pre-trained weights; never written.
        scores: S, which training updates. All three map name → tensor of the matrix's shape; for
            scores of structures see `tamtctl.pruning.trained.folded_structures`.
        keep: Number of weights each matrix keeps; the same before and after every step.
        slowness: Why a GPU does not select all masks at once although the pattern allows it; else
            None.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        start: Start,
        *,
        frozen_in: Path | None = None,
        pattern: str = UNSTRUCTURED,
    ) -> None:
        """Fold initial masks into parameters, which hold the pre-trained weights.

        Args:
            parameters: Name → parameter of every matrix.
            start: Masks for at least these matrices, how many weights they keep, and scores.
            frozen_in: Folder for a file that holds W instead of memory; on a CPU only.
            pattern: Which sets of weights may be kept, a name on the shelf of patterns.
        """
        self.parameters = dict(parameters)
        if frozen_in is None:
            self.frozen = {name: p.detach().clone() for name, p in self.parameters.items()}
        else:
            self.frozen = mapped_copies(self.parameters, frozen_in)
        self._pattern = find_pattern(pattern)
        self.keep = {name: start.keep[name] for name in self.frozen}
        self.scores = self._initial_scores(start)
        threshold = KEPT_SCORE / 2 if start.scores is None else 0.0
        self._cuts = {name: Cut(keep, threshold) for name, keep in self.keep.items()}
        self._selected: dict[str, Tensor] = {}  # name → mask, by patterns that follow no threshold
        self._at_once: GpuSelection | None = None
        self.slowness: str | None = None
        self._select_at_once()
        self.select()

    def _select_at_once(self) -> None:
        """Prepare to select in all matrices at once on a GPU, or say why that cannot be."""
        if not self._pattern.is_followed or next(iter(self.frozen.values())).device.type != "cuda":
            return
        try:
            from tamtctl.pruning.trained.gpu_selection import GpuSelection

            self._at_once = GpuSelection(self.parameters, self.scores, self.frozen, self.keep)
        except Exception as error:  # the errors depend on the installed compilers
            self.slowness = (
                f"the GPU's kernels do not work here, and a step is up to three times slower: "
                f"{reason(error)}"
            )

    def _initial_scores(self, start: Start) -> dict[str, Tensor]:
        return {
            name: KEPT_SCORE * start.masks[name].to(weight.device, weight.dtype)
            if start.scores is None
            else start.scores[name].to(weight.device, weight.dtype)
            for name, weight in self.frozen.items()
        }

    @property
    def masks(self) -> dict[str, Tensor]:
        """Name → m of the last selection, boolean; True keeps."""
        masks = self._masks()
        kept = torch.stack([mask.sum() for mask in masks.values()]).tolist()
        for name, count in zip(masks, kept, strict=True):
            if count != self.keep[name]:
                raise not_numbers(name)
        check_numbers(self.scores)
        return masks

    def _masks(self) -> dict[str, Tensor]:
        if self._at_once:
            return self._at_once.masks()
        return {name: self._mask(name) for name in self.frozen}

    @contextmanager
    def taking_gradients(self) -> Iterator[None]:
        """Turn gradients into those of scores, as soon as a backward pass in this context has them.

        If a step has several backward passes, use it for the last one only. Where all masks are
        selected at once, `set_score_gradients` turns all gradients at once, too.
        """
        names = [] if self._at_once else self.parameters
        hooks = [
            self.parameters[name].register_post_accumulate_grad_hook(
                partial(self._take_gradient, name)
            )
            for name in names
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def set_score_gradients(self) -> None:
        """Turn each parameter's gradient into its score's: dL/dS = dL/d(W ⊙ m) ⊙ W.

        Parameters then hold the gradients of their scores until `select`, unless all masks are
        selected at once.
        """
        found = [name for name, one in self.parameters.items() if one.grad is not None]
        if self._at_once:
            self._take_gradients_at_once(found)
        else:
            for name in found:
                self._take_gradient(name, self.parameters[name])

    @torch.no_grad()
    def _take_gradients_at_once(self, names: Sequence[str]) -> None:
        gradients = [cast(Tensor, self.parameters[name].grad) for name in names]
        if names:
            torch._foreach_mul_(gradients, [self.frozen[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            self.scores[name].grad, self.parameters[name].grad = gradient, None

    @torch.no_grad()
    def _take_gradient(self, name: str, parameter: Tensor) -> None:
        place, weight, gradient = parameter.detach(), self.frozen[name], parameter.grad
        assert gradient is not None
        if gradient.is_sparse:  # an embedding's: only rows that were looked up, and some repeatedly
            rows, values = gradient._indices()[0], gradient._values()
            place.zero_().index_add_(0, rows, values * weight[rows])
        else:
            torch.mul(gradient, weight, out=place)
        self.scores[name].grad, parameter.grad = place, None

    def clear_gradients(self) -> None:
        """Forget the gradients of parameters and scores."""
        for name, parameter in self.parameters.items():
            parameter.grad = None
            if self.scores[name].grad is not None:
                self.scores[name].grad = None
                if not self._at_once:  # the gradient was in the parameter's memory
                    self._fold(name)

    def select(self) -> None:
        """Select the largest scores of every matrix, as many as before, and fold the masks in."""
        if not self._pattern.is_followed:
            self._select_anew()
        for scores in self.scores.values():
            scores.grad = None
        if self._at_once:
            self._at_once.select_and_fold()
            return
        for name in self.scores:
            self._follow(name)
            self._fold(name)

    def _select_anew(self) -> None:
        self._look_for_numbers()
        sizes = {name: weight.abs() for name, weight in self.frozen.items()}
        self._selected = self._pattern.select(self.scores, self.keep, sizes)

    def _look_for_numbers(self) -> None:
        """Refuse NaN scores at once; a GPU would have to be waited for, and `masks` looks there."""
        if next(iter(self.scores.values())).device.type == "cpu":
            check_numbers(self.scores)

    def _is_cut(self, name: str) -> bool:
        """Whether the mask is kept as a threshold, which is so on a CPU."""
        return name not in self._selected and self.scores[name].device.type == "cpu"

    def _follow(self, name: str) -> None:
        scores = self.scores[name]
        if self._is_cut(name):
            try:
                self._cuts[name].follow(scores, self.frozen[name])
            except ValueError as error:
                raise not_numbers(name) from error

    @torch.no_grad()
    def _fold(self, name: str) -> None:
        """Write W ⊙ m into a parameter, in place."""
        parameter, weight = self.parameters[name], self.frozen[name]
        if not self._is_cut(name):
            torch.mul(weight, self._mask(name), out=parameter)
            return
        # W where S > τ, else 0: the backward of a rectifier is the only fused kernel that does
        # this.
        cut = self._cuts[name]
        torch.ops.aten.threshold_backward.grad_input(
            weight, self.scores[name], cut.threshold, grad_input=parameter
        )
        parameter.view(-1)[cut.kept_equals] = weight.view(-1)[cut.kept_equals]

    def _mask(self, name: str) -> Tensor:
        if name in self._selected:
            return self._selected[name]
        scores = self.scores[name]
        if self._is_cut(name):
            return self._cuts[name].mask(scores)
        return keep_largest(scores, self.keep[name], among_equals=self.frozen[name].abs())

    def state_dict(self) -> dict[str, Tensor]:
        """Return name → score, from which the masks follow; frozen weights are not included."""
        return dict(self.scores)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned, in place, and fold its masks in."""
        for name, scores in self.scores.items():
            scores.copy_(state[name])
        self.select()


def check_numbers(scores: Mapping[str, Tensor]) -> None:
    """Raise DivergedError if a score is NaN; a GPU is waited for once."""
    found = torch.stack([one.isnan().any() for one in scores.values()]).tolist()
    for name, is_lost in zip(scores, found, strict=True):
        if is_lost:
            raise not_numbers(name)


def not_numbers(name: str) -> DivergedError:
    """Return the error for scores that are NaN and cannot be ranked."""
    return DivergedError(
        f"the scores of {name} are no longer numbers; "
        "try a lower --learning-rate, or --precision fp32"
    )


def fold(
    parameters: Mapping[str, nn.Parameter],
    frozen: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> None:
    """Write W ⊙ m into the parameters in place, so that all holders see the new weights."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            weight = frozen[name]
            torch.where(masks[name], weight, weight.new_zeros(()), out=parameter)


def mapped_copies(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return copies of CPU tensors that are mapped to a file on disk.

    Never write to them. While memory is free, the system caches the file in it, and they are as
    fast as any other tensor; when it runs short, the system drops pages of the file. The file has
    no name and disappears with the last copy.

    Args:
        tensors: Name → tensor on the CPU, of a type that numpy has.
        folder: Folder of the file, on a disk; it is created if it does not exist.

    Raises:
        OSError: The file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = {}
    with tempfile.TemporaryFile(dir=folder) as file:
        for name, tensor in tensors.items():
            values = tensor.detach().numpy()
            start = file.tell()
            values.tofile(file)
            file.flush()
            # Copy on write ("c") never changes the file; torch would warn of a read-only array.
            array = np.memmap(file, values.dtype, mode="c", offset=start, shape=values.shape)
            copies[name] = torch.from_numpy(array)
            file.seek(0, 2)
    return copies
