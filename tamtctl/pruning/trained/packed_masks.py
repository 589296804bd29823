"""Masks that are kept for later, one bit per weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from tamtctl.foundations.masks import pack, unpack


class PackedMasks:
    """Masks as packed bits, each unpacked when it is asked for."""

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        """Pack name → boolean mask, on whatever device."""
        self._bits = {
            name: (pack(mask.numpy(force=True)), tuple(mask.shape)) for name, mask in masks.items()
        }

    def masks(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return name → mask on the CPU, of some matrices or (None) of all."""
        return {
            name: torch.from_numpy(unpack(*self._bits[name]))
            for name in (self._bits if names is None else names)
        }

    def flips(self, masks: Mapping[str, Tensor]) -> float:
        """Return the share of the bits of other masks, over some of the matrices, that differ."""
        flipped = weights = 0
        for name, mask in masks.items():
            before = unpack(*self._bits[name])
            flipped += int(np.count_nonzero(mask.numpy(force=True) != before))
            weights += mask.numel()
        return flipped / weights
