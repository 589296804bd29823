"""Masks in numpy, so that they can be read and compared without torch.

Packed as bits, eight weights make a byte: row-major, least significant bit first, 1 = kept. The
unused high bits of the last byte, the *spare bits*, are zero. To find the largest values, numpy's
partition takes a tenth of torch's time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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


def digest_of(packed: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """Return the SHA-256 of named masks; equal ones have equal digests."""
    digest = hashlib.sha256()
    for name in sorted(packed):
        digest.update(name.encode() + b"\n")
        digest.update(packed[name].tobytes())
    return digest.digest()


def count_kept(packed: NDArray[np.uint8]) -> int:
    """Return how many bits are set, spare bits included."""
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def has_spare_bits_set(packed: NDArray[np.uint8], numel: int) -> bool:
    """Return whether a bit after the last of ``numel`` weights is set."""
    used = numel % 8
    return used != 0 and int(packed[-1]) >> used != 0


def keep_count(numel: int, sparsity: float) -> int:
    """Return how many of ``numel`` weights a sparsity keeps: numel − ⌊numel · sparsity⌋.

    The product is computed in decimal, since in binary 100 · 0.29 would prune 28.
    """
    return numel - int(numel * Decimal(repr(float(sparsity))))


def largest(
    values: NDArray[Any], keep: int, among_equals: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Return the mask, shape (n,), of exactly ``keep`` largest values, of shape (n,).

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
