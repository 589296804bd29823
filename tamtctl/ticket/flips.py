"""Where a ticket's masks differ from the magnitude masks: its *flips*, by matrix.

A trained mask starts near the magnitude mask and keeps most of it, so the flips are what a search
has found. A ticket stored as ``delta`` consists of its flips; for other encodings, finding them
needs the pre-trained weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.ticket.base_weights import BaseWeights, UnknownWeightsError
from tamtctl.ticket.format.mask_codec import Mask, count_flips, magnitude_mask
from tamtctl.ticket.matrix_places import layer_of, shares_by, type_of
from tamtctl.ticket.ticket import Ticket


@dataclass(frozen=True)
class Flips:
    """The number of flips: positions in which masks differ from equally sparse magnitude masks.

    Attributes:
        counts: Name → number of flips; empty if they are not known.
        sizes: Name → number of weights of every masked matrix.
        chance: Share of flips that masks independent of the weights would have.
        unknown: Why the flips are not known; None if they are.
    """

    counts: Mapping[str, int]
    sizes: Mapping[str, int]
    chance: float
    unknown: str | None = None

    @property
    def share(self) -> float | None:
        """Return the share of all counted weights that differ; None if it is not known."""
        return sum(self.counts.values()) / sum(self.sizes.values()) if self.counts else None

    @property
    def layers(self) -> dict[str, float]:
        """Return layer → share of its weights that differ; ``-`` stands for outside the layers."""
        return shares_by(layer_of, self.counts, self.sizes)

    @property
    def types(self) -> dict[str, float]:
        """Return type of matrix → share of its weights that differ."""
        return shares_by(type_of, self.counts, self.sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "share": self.share,
            "by_chance": self.chance,
            "layers": self.layers,
            "types": self.types,
            "matrices": {name: count / self.sizes[name] for name, count in self.counts.items()},
            "unknown": self.unknown,
        }


def flips_of(ticket: Ticket) -> Flips:
    """Count the flips, from the ticket alone or with its base model's weights on this machine.

    Neither torch nor the network is used.
    """
    sizes = {name: entry.numel for name, entry in ticket.parameters.items()}
    # Both masks keep k of n weights. By chance, one prunes a share 1 - k/n of the other's k.
    chance = sum(2 * e.kept * (1 - e.kept / e.numel) for e in ticket.parameters.values())
    chance /= ticket.total
    if ticket.encoding == "delta":
        counts = {n: count_flips(ticket.stored[n], size) for n, size in sizes.items()}
        return Flips(counts, sizes, chance)
    try:
        base = BaseWeights(ticket)
        counts = {
            name: int(np.count_nonzero(_differing(ticket, name, base.read(name, entry))))
            for name, entry in ticket.parameters.items()
        }
    except UnknownWeightsError as error:
        return Flips({}, sizes, chance, str(error))
    return Flips(counts, sizes, chance)


def _differing(ticket: Ticket, name: str, weight: NDArray[np.float32]) -> Mask:
    mask = ticket.decoded(name, weight)
    return mask ^ magnitude_mask(weight, ticket.parameters[name].kept)


@dataclass(frozen=True)
class SharedFlips:
    """How alike the flips of two tickets are, averaged over the matrices with any flip.

    Attributes:
        jaccard: Positions that both flip, as a share of those that either flips.
        chance: The Jaccard similarity of as many flips at random positions of the matrices.
    """

    jaccard: float
    chance: float


def shared_flips(tickets: Sequence[Ticket]) -> dict[tuple[int, int], SharedFlips]:
    """Compare the flips of every two tickets whose base model's weights are on this machine.

    Two tickets whose masks are over different weights are left out.
    """
    bases: dict[int, BaseWeights] = {}
    for number, ticket in enumerate(tickets):
        with suppress(UnknownWeightsError):
            bases[number] = BaseWeights(ticket)
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for name in dict.fromkeys(name for ticket in tickets for name in ticket.parameters):
        weights: dict[str, NDArray[np.float32]] = {}  # by checksum
        flips: dict[int, tuple[str, Mask]] = {}
        for number, base in list(bases.items()):
            if (entry := tickets[number].parameters.get(name)) is None:
                continue
            try:
                if entry.sha256 not in weights:
                    weights[entry.sha256] = base.read(name, entry)
            except UnknownWeightsError:
                del bases[number]
                continue
            differing = _differing(tickets[number], name, weights[entry.sha256])
            flips[number] = entry.sha256, differing
        for pair, alike in _alike(flips):
            found.setdefault(pair, []).append(alike)
    return {
        pair: SharedFlips(*map(float, np.array(values).mean(0)))
        for pair, values in found.items()
        if bases.keys() >= set(pair)
    }


def _alike(
    flips: Mapping[int, tuple[str, Mask]],
) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
    """Yield two tickets, and the similarity of their flips in one matrix with that by chance."""
    for a, b in itertools.combinations(flips, 2):
        (weight_a, flips_a), (weight_b, flips_b) = flips[a], flips[b]
        if weight_a != weight_b:
            continue
        either = int(np.count_nonzero(flips_a | flips_b))
        if not either:
            continue
        share_a, share_b = flips_a.mean(), flips_b.mean()
        by_chance = share_a * share_b / (share_a + share_b - share_a * share_b)
        yield (a, b), (int(np.count_nonzero(flips_a & flips_b)) / either, float(by_chance))
