"""How much of the initial mask a training has flipped, counted where the masks are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.ticket.packed_masks import PackedMasks


class InitialMasks:
    """The masks that a training starts from.

    Attributes:
        packed: The masks, with one bit for each weight.
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        """Keep masks, name → boolean tensor."""
        self.packed = PackedMasks.of(masks)
        self._on_gpu: dict[str, Tensor] = {}  # one byte for each weight

    def flips(self, masks: Mapping[str, Tensor]) -> float:
        """Return the share of mask bits that differ from the initial masks.

        Packing the masks of a GPU on the host would take as long as several steps: there they are
        compared in place, and one number is sent.

        Args:
            masks: Name → mask, all on one device.
        """
        device = next(iter(masks.values())).device
        if device.type == "cpu":
            return PackedMasks.of(masks).differences(self.packed)["all"]
        if not self._on_gpu:
            self._on_gpu = {n: m.to(device) for n, m in self.packed.unpacked(masks).items()}
        differing = torch.stack([(m != self._on_gpu[n]).sum() for n, m in masks.items()])
        return int(differing.sum()) / sum(mask.numel() for mask in masks.values())
