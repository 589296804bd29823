"""Keeping pruned weights at zero while the others are trained."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class MaskedGradients:
    """Zeroes the gradients of pruned weights, so that no step moves them from zero."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]) -> None:
        """Prepare to zero gradients.

        Args:
            parameters: Name → matrix, for at least every mask.
            masks: Name → boolean mask; True keeps.
        """
        # As floats: on a CPU, multiplying by booleans takes twenty times as long.
        self._kept = [
            (parameters[name], mask.to(parameters[name].device, parameters[name].dtype))
            for name, mask in masks.items()
        ]

    def apply(self) -> None:
        """Zero the gradients of pruned weights, where there are gradients."""
        for parameter, kept in self._kept:
            if parameter.grad is not None:
                parameter.grad.mul_(kept)
