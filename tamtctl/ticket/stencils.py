"""One mask over one parameter: pruned weights are set to zero, kept there, and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tamtctl.foundations.masks import pack, unpack

# Seen as an integer of as many bytes, a weight is pruned by a bitwise "and": on a CPU that is ten
# times faster than filling by a mask, and -0.0 and NaN become +0.0.
_PATTERNS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Stencil:
    """Which weights of one matrix are pruned: a byte for each, all bits set where it is kept."""

    def __init__(self, mask: Tensor) -> None:
        self._bits = -mask.to(torch.int8)  # True, which keeps, becomes -1

    @property
    def shape(self) -> torch.Size:
        """Shape of the mask."""
        return self._bits.shape

    @property
    def pruned(self) -> int:
        """Number of weights that it prunes."""
        return self._bits.numel() - int(self._bits.count_nonzero())

    def cut_out(self, weight: Tensor) -> None:
        """Set the pruned weights to zero, unseen by autograd.

        A model may run twice before its backward pass, and autograd refuses weights that it saw
        change in between.
        """
        data = weight.data
        data.view(_PATTERNS[data.element_size()]).bitwise_and_(self._on(data.device))

    def cut_gradient(self, gradient: Tensor) -> Tensor:
        """Return a gradient with zeros at the pruned weights."""
        bits = self._on(gradient.device)
        if gradient.layout != torch.strided:  # of a sparse embedding; the step's end sees to it
            return gradient
        if gradient.requires_grad:  # which a bit pattern has no derivative for
            return gradient.masked_fill(bits == 0, 0.0)
        pattern = _PATTERNS[gradient.element_size()]
        return gradient.view(pattern).bitwise_and(bits).view(gradient.dtype)

    def is_zero_in(self, weight: Tensor) -> bool:
        """Tell whether all pruned weights of a matrix are zero."""
        return not bool((weight.detach().ne(0) & self._on(weight.device).eq(0)).any())

    def of_rows(self, rows: int) -> Stencil:
        """Return the stencil of the first rows of a table; rows that the mask lacks are kept."""
        more = max(0, rows - len(self._bits))
        return Stencil(nn.functional.pad(self._bits[:rows].bool(), (0, 0, 0, more), value=True))

    def equals(self, mask: Tensor) -> bool:
        """Tell whether a mask keeps and prunes the same weights."""
        return torch.equal(self._bits.cpu().bool(), mask.cpu())

    def _on(self, device: torch.device) -> Tensor:
        if self._bits.device != device:
            self._bits = self._bits.to(device)
        return self._bits

    def __deepcopy__(self, memo: dict[int, Any]) -> Stencil:
        shared = object.__new__(Stencil)
        shared._bits = self._bits  # which are never written
        return shared

    def __reduce__(self) -> tuple[Callable[..., Stencil], tuple[Any, ...]]:
        return _stencil_of_packed, (
            pack(self._bits.bool().numpy(force=True)),
            tuple(self._bits.shape),
        )


def _stencil_of_packed(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> Stencil:
    return Stencil(torch.from_numpy(unpack(packed, shape)))


@dataclass
class Bound:
    """A parameter whose pruned weights are kept at zero, and its state when they were last set.

    Attributes:
        parameter: The parameter.
        gradient_hook: What sets the gradient of pruned weights to zero; None: nothing does.
        version: How often autograd had seen the parameter change.
        address: Where its storage was.
    """

    parameter: nn.Parameter
    gradient_hook: RemovableHandle | None = None
    version: int = -1
    address: int = 0

    @property
    def has_changed(self) -> bool:
        """Whether a change can be told by the version or the storage; not every one can."""
        return (self.version, self.address) != (self.parameter._version, self.parameter.data_ptr())

    def follow(self, stencil: Stencil) -> None:
        """Set the gradient of pruned weights to zero from now on; a frozen parameter has none."""
        if self.gradient_hook is None and self.parameter.requires_grad:
            self.gradient_hook = self.parameter.register_hook(stencil.cut_gradient)

    def restore(self, stencil: Stencil) -> None:
        """Set the pruned weights to zero again, and remember the parameter's state."""
        if self.parameter.is_meta:  # its weights are elsewhere for now
            return
        stencil.cut_out(self.parameter)
        self.version, self.address = self.parameter._version, self.parameter.data_ptr()

    def release(self) -> None:
        """Leave the parameter's gradient alone from now on."""
        if self.gradient_hook:
            self.gradient_hook.remove()
            self.gradient_hook = None
