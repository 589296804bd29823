"""Selecting the largest scores of all matrices at once on a GPU, and folding their masks in.

Matrix by matrix, a step would start thousands of small operations, and starting them takes longer
than computing them. Here a step is 26 of them, whatever the number of matrices, and none waits for
the GPU. They are kernels in Triton, which torch's builds for CUDA bring along.

The order of a matrix's weights has three levels: the score, among equal scores |w|, and among equal
|w| the lower flat index (see `tamtctl.foundations.selection`). Each level is a key of 32 bits, in
the order of unsigned integers. The key of the last weight that is kept is found digit by digit,
eight bits at a time, from the highest (radix selection): the kernels count how many of the weights
in question have each digit, and choose the digit at which as many as needed are kept. A level is
left out where those above it have decided, which is so almost always.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096  # weights of one program
_LEVELS, _BITS = 3, 8  # keys, and bits of a digit
# For each matrix: the three keys of the last weight that is kept, how many of the weights in
# question are to be kept, and whether there are any.
_STATE = 5
_HIGHEST = 2**32 - 1  # above the keys of all numbers


class GpuSelection:
    """The exact selection of the largest scores of every matrix, on the GPU that they are on."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        scores: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        keep: Mapping[str, int],
    ) -> None:
        """Prepare for scores that are updated in place, and select by them once.

        Args:
            parameters: Name → what W ⊙ m is written into, in place.
            scores: Name → float32 scores, of the same shape.
            weights: Name → float32 weights W, of the same shape.
            keep: Name → how many are kept.

        Raises:
            ValueError: The kernels do not take these tensors.
            Exception: Triton cannot build its kernels here.
        """
        self._parameters, self._scores = dict(parameters), dict(scores)
        self._weights = [weights[name] for name in scores]
        plain = [parameter.detach() for parameter in parameters.values()]
        for tensor in [*plain, *self._scores.values(), *self._weights]:
            # A subclass may have its numbers elsewhere.
            if type(tensor) is not Tensor or tensor.dtype != torch.float32:
                raise ValueError("the weights are not plain float32 tensors")
        self._device = self._weights[0].device
        if any(one.device != self._device for one in [*plain, *self._scores.values()]):
            raise ValueError("the weights are not all on one GPU")
        sizes = [weight.numel() for weight in self._weights]
        undecided = [_undecided(keep[n], size) for n, size in zip(scores, sizes, strict=True)]
        self._start = self._sent(undecided)  # (matrices, _STATE)
        self._state = self._start.clone()
        self._counts = torch.zeros(len(sizes), 2**_BITS, dtype=torch.int32, device=self._device)
        self._sizes = self._sent(sizes)
        blocks = [(i, at) for i, size in enumerate(sizes) for at in range(0, size, _BLOCK)]
        self._blocks = self._sent(blocks)  # (blocks, 2): the matrix, and the first weight in it
        self._tables: dict[bool, tuple[list[list[int]], Tensor]] = {}
        self.select_and_fold()
        self.masks()  # builds the other kernel

    def select_and_fold(self) -> None:
        """Select by the scores as they are now, and write W ⊙ m into the parameters."""
        addresses = self._addresses_with(self._parameters, are_masks=False)
        self._state.copy_(self._start)
        matrices = (len(self._scores),)
        for level in range(_LEVELS):
            for shift in reversed(range(0, 32, _BITS)):
                _count[self._grid](
                    self._blocks, addresses, self._sizes, self._state, self._counts, shift,
                    LEVEL=level, BITS=_BITS, BLOCK=_BLOCK, STATE=_STATE, num_warps=8,
                )  # fmt: skip
                _choose[matrices](
                    self._state, self._counts, shift, LEVEL=level, BITS=_BITS, STATE=_STATE
                )
        self._write(addresses, are_masks=False)

    def masks(self) -> dict[str, Tensor]:
        """Return name → mask of the last selection, as long as the scores are the same."""
        masks = {n: torch.empty_like(one, dtype=torch.bool) for n, one in self._scores.items()}
        self._write(self._addresses_with(masks, are_masks=True), are_masks=True)
        return masks

    @property
    def _grid(self) -> tuple[int]:
        return (len(self._blocks),)

    def _write(self, addresses: Tensor, *, are_masks: bool) -> None:
        _fold[self._grid](
            self._blocks, addresses, self._sizes, self._state,
            ARE_MASKS=are_masks, BLOCK=_BLOCK, STATE=_STATE, num_warps=8,
        )  # fmt: skip

    def _addresses_with(self, written: Mapping[str, Tensor], *, are_masks: bool) -> Tensor:
        """Return where scores, weights and what is written are, for each matrix, (matrices, 3).

        The table is sent when an address has changed, as that of new masks; those of parameters
        change only if somebody moves the model.
        """
        rows = zip(self._scores.items(), self._weights, strict=True)
        found = [[one.data_ptr(), w.data_ptr(), written[n].data_ptr()] for (n, one), w in rows]
        known = self._tables.get(are_masks)
        if known is None or found != known[0]:
            tensors = [*self._scores.values(), *self._weights, *written.values()]
            if not all(map(_is_in_order, tensors)):
                raise ValueError("the weights do not lie in memory one after another")
            self._tables[are_masks] = known = found, self._sent(found)
        return known[1]

    def _sent(self, numbers: object) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


def _is_in_order(tensor: Tensor) -> bool:
    is_aligned = tensor.data_ptr() % 16 == 0  # the kernels load four numbers at once
    return tensor.is_contiguous() and is_aligned and tensor.numel() < 2**31


def _undecided(keep: int, size: int) -> list[int]:
    """Return the state of a matrix before the first digit is known."""
    is_decided = keep in (0, size)
    return [*[0 if keep else _HIGHEST] * _LEVELS, keep, int(not is_decided)]


@triton.jit
def _ordered(values):
    """Return float32 numbers as uint32 in the same order; both zeros are equal."""
    bits = tl.where(values == 0, 0.0, values).to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _early(at):
    """Return indices as uint32 in reverse order."""
    return at.to(tl.uint32) ^ 0xFFFFFFFF


@triton.jit
def _loaded(addresses, row, column, at, is_inside):
    """Return float32 numbers from the memory whose address is in a table."""
    start = tl.load(addresses + row * 3 + column).to(tl.pointer_type(tl.float32))
    return tl.load(tl.multiple_of(start, 16) + at, mask=is_inside, other=0.0)


@triton.jit
def _place(blocks, sizes, BLOCK: tl.constexpr):  # noqa: N803
    """Return the matrix of this program, the indices of its weights, and which of them exist."""
    row = tl.load(blocks + tl.program_id(0) * 2)
    start = tl.multiple_of(tl.load(blocks + tl.program_id(0) * 2 + 1).to(tl.int32), BLOCK)
    at = start + tl.arange(0, BLOCK)
    return row, at, at < tl.load(sizes + row)


@triton.jit(do_not_specialize=["shift"])
def _count(
    blocks, addresses, sizes, state, counts, shift,
    LEVEL: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr, STATE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Count the digits of the weights in question, in each matrix that has any."""
    row, at, is_asked = _place(blocks, sizes, BLOCK)
    found = state + row * STATE
    if tl.load(found + 4) != 0:
        key = _ordered(_loaded(addresses, row, 0, at, is_asked))
        if LEVEL > 0:
            is_asked = is_asked & (key == tl.load(found).to(tl.uint32))
            key = _ordered(tl.abs(_loaded(addresses, row, 1, at, is_asked)))
        if LEVEL > 1:
            is_asked = is_asked & (key == tl.load(found + 1).to(tl.uint32))
            key = _early(at)
        known = tl.load(found + LEVEL).to(tl.uint32)
        is_asked = is_asked & ((key >> shift >> BITS) == (known >> shift >> BITS))
        digits = tl.where(is_asked, (key >> shift) & ((1 << BITS) - 1), 0).to(tl.int32)
        bins = tl.arange(0, 1 << BITS)
        others = BLOCK - tl.sum(is_asked.to(tl.int32), 0)  # are counted as zeros
        of_digit = tl.histogram(digits, 1 << BITS) - tl.where(bins == 0, others, 0)
        tl.atomic_add(counts + (row << BITS) + bins, of_digit, mask=of_digit > 0, sem="relaxed")


@triton.jit(do_not_specialize=["shift"])
def _choose(
    state, counts, shift, LEVEL: tl.constexpr, BITS: tl.constexpr, STATE: tl.constexpr  # noqa: N803
):  # fmt: skip
    """Choose the digit of the last weight that is kept, and forget the counts."""
    row = tl.program_id(0)
    found = state + row * STATE
    if tl.load(found + 4) != 0:
        bins = tl.arange(0, 1 << BITS)
        of_digit = tl.load(counts + (row << BITS) + bins)
        above = tl.sum(of_digit, 0) - tl.cumsum(of_digit, 0)
        wanted = tl.load(found + 3)
        is_chosen = (above < wanted) & (wanted <= above + of_digit)
        digit = tl.sum(tl.where(is_chosen, bins, 0), 0).to(tl.int64)
        wanted -= tl.sum(tl.where(is_chosen, above, 0), 0)
        tl.store(found + LEVEL, tl.load(found + LEVEL) | (digit << shift))
        tl.store(found + 3, wanted)
        if shift == 0:  # all that are equal so far are kept, or the next level chooses among them
            equal = tl.sum(tl.where(is_chosen, of_digit, 0), 0)
            tl.store(found + 4, (equal != wanted).to(tl.int64))
        tl.store(counts + (row << BITS) + bins, tl.zeros_like(of_digit))


@triton.jit
def _fold(
    blocks, addresses, sizes, state,
    ARE_MASKS: tl.constexpr, BLOCK: tl.constexpr, STATE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write the weights that are kept, and zeros; or write the mask."""
    row, at, is_inside = _place(blocks, sizes, BLOCK)
    score = _ordered(_loaded(addresses, row, 0, at, is_inside))
    weights = _loaded(addresses, row, 1, at, is_inside)
    size = _ordered(tl.abs(weights))
    found = state + row * STATE
    last = tl.load(found).to(tl.uint32)
    last_size = tl.load(found + 1).to(tl.uint32)
    is_early = _early(at) >= tl.load(found + 2).to(tl.uint32)
    is_large = (size > last_size) | ((size == last_size) & is_early)
    is_kept = (score > last) | ((score == last) & is_large)
    to = tl.load(addresses + row * 3 + 2)
    if ARE_MASKS:
        tl.store(to.to(tl.pointer_type(tl.int8)) + at, is_kept.to(tl.int8), mask=is_inside)
    else:
        place = tl.multiple_of(to.to(tl.pointer_type(tl.float32)), 16)
        tl.store(place + at, tl.where(is_kept, weights, 0.0), mask=is_inside)
