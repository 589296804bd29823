"""Masks as bits: eight weights to a byte, row-major, least significant bit first, 1 = kept.

The unused high bits of the last byte, *spare bits*, are zero.
"""

from __future__ import annotations

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
