"""Masks in numpy, so that they are read and told from weights without torch.

As bits, eight weights are a byte, row-major, least significant bit first, 1 = kept; the unused high
bits of the last byte, *spare bits*, are zero. Which values are the largest numpy's partition tells
in a tenth of the time that torch takes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed_size(numel: int) -> int:
    """Return the number of bytes that ``numel`` bits take."""
    return -(-numel // 8)


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a mask of any shape, n weights in all, as ⌈n/8⌉ bytes."""
    return np.packbits(mask, bitorder="little")


def unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the mask of ``shape`` that `pack` was given."""
    numel = int(np.prod(shape, dtype=np.int64))
    bits = np.unpackbits(packed, count=numel, bitorder="little")  # (n,)
    return bits.view(np.bool_).reshape(shape)


def count_kept(packed: NDArray[np.uint8]) -> int:
    """Return how many bits are set, spare bits included."""
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def has_spare_bits_set(packed: NDArray[np.uint8], numel: int) -> bool:
    """Return whether a bit behind the last of ``numel`` weights is set."""
    used = numel % 8
    return used != 0 and int(packed[-1]) >> used != 0


def keep_count(numel: int, sparsity: float) -> int:
    """Return how many of ``numel`` weights a sparsity keeps: numel − ⌊numel · sparsity⌋.

    The product is taken in decimal: in binary, 100 · 0.29 would prune 28.
    """
    return numel - int(numel * Decimal(repr(float(sparsity))))


def largest(
    values: NDArray[Any], keep: int, among_equals: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Return which of the values, of shape (n,), are the ``keep`` largest, exactly so many.

    Among equal values the larger ``among_equals`` is kept, and then the lower index.
    """
    if keep in (0, values.size):
        return np.full(values.shape, keep > 0)
    prune = values.size - keep
    threshold = np.partition(values, prune - 1)[prune - 1]  # the largest value to prune
    mask: NDArray[np.bool_] = values > threshold
    if missing := keep - int(np.count_nonzero(mask)):
        tied = np.flatnonzero(values == threshold)
        if among_equals is not None:
            tied = tied[largest(among_equals[tied], missing)]
        mask[tied[:missing]] = True
    return mask
