"""Masks in memory with one bit per weight, which are compared without unpacking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.foundations.masks import count_kept, digest_of, pack, unpack
from tamtctl.ticket.matrix_places import place_of
from tamtctl.ticket.similarity import Overlap, averaged, overlap_of
from tamtctl.ticket.ticket import Ticket


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """The masks of one subnetwork, without a ticket.

    Attributes:
        packed: Name → packed bits of the mask; see `tamtctl.foundations.masks`.
        shapes: Name → shape of the matrix.
    """

    packed: Mapping[str, NDArray[np.uint8]]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, masks: Mapping[str, Tensor]) -> PackedMasks:
        """Pack boolean masks."""
        packed = {name: pack(mask.numpy(force=True)) for name, mask in masks.items()}
        return cls(packed, {name: tuple(mask.shape) for name, mask in masks.items()})

    @classmethod
    def of_ticket(cls, ticket: Ticket, weights: Mapping[str, Tensor]) -> PackedMasks:
        """Return the masks of a ticket, each decoded once.

        Args:
            ticket: A ticket that was checked against the weights.
            weights: Name → pre-trained weight of every maskable matrix of the model.

        Raises:
            TicketError: A mask is damaged.
        """
        known = {name: weights[name] for name in ticket.parameters if name in weights}
        packed = ticket.masks_over(known).encode("bits").stored
        return cls(packed, {name: ticket.parameters[name].shape for name in packed})

    @cached_property
    def kept(self) -> dict[str, int]:
        """Name → number of weights that the mask keeps."""
        return {name: count_kept(bits) for name, bits in self.packed.items()}

    @cached_property
    def digest(self) -> bytes:
        """A digest of the masks, equal for equal masks."""
        return digest_of(self.packed)

    def unpacked(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return name → boolean mask, of some matrices or all (None), in eight times the memory."""
        return {
            name: torch.from_numpy(unpack(self.packed[name], self.shapes[name]))
            for name in (self.packed if names is None else names)
        }

    def differences(self, other: PackedMasks) -> dict[str, float]:
        """Return the share of weights on which two masks differ, for each layer and for ``all``.

        Matrices outside the layers are under ``outside``; matrices that only one of them masks are
        left out.
        """
        differing: dict[str, int] = {}
        total: dict[str, int] = {}
        for name, bits in self.packed.items():
            if name not in other.packed:
                continue
            layer = place_of(name).layer
            for group in ("all", "outside" if layer is None else str(layer)):
                differing[group] = differing.get(group, 0) + count_kept(bits ^ other.packed[name])
                total[group] = total.get(group, 0) + self._size(name)
        return {group: differing[group] / total[group] for group in total}

    def overlap(self, other: PackedMasks) -> Overlap | None:
        """Return how alike two masks are, averaged over the matrices that both mask, or None."""
        found = [
            overlap_of(
                self.kept[name],
                other.kept[name],
                count_kept(bits & other.packed[name]),
                self._size(name),
            )
            for name, bits in self.packed.items()
            if name in other.packed
        ]
        return averaged(found) if found else None

    def _size(self, name: str) -> int:
        return int(np.prod(self.shapes[name], dtype=np.int64))
