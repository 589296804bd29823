"""Masks as bits: eight weights to a byte, row-major, least significant bit first, 1 = kept.

The unused high bits of the last byte, *spare bits*, are zero.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def packed_size(numel: int) -> int:
    """Return the number of bytes that ``numel`` bits take."""
    return -(-numel // 8)


def pack(mask: Tensor) -> Tensor:
    """Return a boolean mask of any shape, n weights in all, as a uint8 tensor of ⌈n/8⌉ bytes."""
    return torch.from_numpy(np.packbits(mask.numpy(force=True), bitorder="little"))


def unpack(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the boolean mask of ``shape`` that `pack` was given."""
    numel = int(np.prod(shape, dtype=np.int64))
    bits = np.unpackbits(packed.numpy(), count=numel, bitorder="little")  # (n,)
    return torch.from_numpy(bits.view(np.bool_)).view(shape)


def count_kept(packed: Tensor) -> int:
    """Return how many bits are set, spare bits included."""
    return int(np.bitwise_count(packed.numpy()).sum(dtype=np.int64))


def has_spare_bits_set(packed: Tensor, numel: int) -> bool:
    """Return whether a bit behind the last of ``numel`` weights is set."""
    used = numel % 8
    return used != 0 and int(packed[-1]) >> used != 0
