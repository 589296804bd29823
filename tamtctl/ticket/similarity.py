"""The similarity of tickets.

Similarity is computed per matrix and then averaged over the matrices (TAMT, §5.3), so that the word
embeddings, a fifth of BERT's weights, do not dominate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.masks import count_kept
from tamtctl.ticket.ticket import Ticket


@dataclass(frozen=True)
class Overlap:
    """The similarity of two masks of one matrix, or its average over matrices.

    Attributes:
        jaccard: Weights that both keep, as a share of those that at least one keeps.
        hamming: Share of the weights that both keep or both prune.
        chance_jaccard: The Jaccard similarity that random masks of the same densities would have.
        chance_hamming: The Hamming similarity that such random masks would have.
    """

    jaccard: float
    hamming: float
    chance_jaccard: float
    chance_hamming: float


@dataclass(frozen=True)
class Similarity:
    """The similarity of two tickets.

    Attributes:
        a: Index of one ticket in the list that was compared.
        b: Index of the other.
        average: The mean over the matrices that both tickets mask.
        matrices: Name → similarity of the two masks, for each of these matrices.
        same_base: Whether both are masks of the same pre-trained weights.
    """

    a: int
    b: int
    average: Overlap
    matrices: Mapping[str, Overlap]
    same_base: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def similarities(tickets: Sequence[Ticket]) -> list[Similarity]:
    """Compare every two tickets that mask a matrix in common.

    Raises:
        TicketError: No matrix is common to tickets of two models, or one is still encoded as
            ``delta``.
    """
    found = []
    for (i, a), (j, b) in itertools.combinations(enumerate(tickets), 2):
        common = [
            name
            for name, entry in a.parameters.items()
            if name in b.parameters and b.parameters[name].shape == entry.shape
        ]
        if common:
            found.append(_similarity(i, j, a, b, common))
        elif a.base_model.id != b.base_model.id:
            raise TicketError(
                f"tickets of {a.base_model.id} and {b.base_model.id} have no matrix of the same "
                "name and shape; compare tickets of the same model"
            )
    return found


def _similarity(i: int, j: int, a: Ticket, b: Ticket, common: Sequence[str]) -> Similarity:
    matrices = {name: _overlap(a, b, name) for name in common}
    average = averaged(matrices.values())
    # Fingerprints would not do, as they differ if tickets mask different matrices.
    same_base = all(a.parameters[name].sha256 == b.parameters[name].sha256 for name in common)
    return Similarity(i, j, average, matrices, same_base)


def _overlap(a: Ticket, b: Ticket, name: str) -> Overlap:
    entry = a.parameters[name]
    both = 0
    for bits_a, bits_b in zip(a.packed_mask(name), b.packed_mask(name), strict=True):
        both += count_kept(bits_a & bits_b)
    return overlap_of(entry.kept, b.parameters[name].kept, both, entry.numel)


def averaged(overlaps: Iterable[Overlap]) -> Overlap:
    """Return the average over matrices; there must be at least one."""
    values = np.array([list(asdict(overlap).values()) for overlap in overlaps])  # (m, 4)
    return Overlap(*map(float, values.mean(0)))


def overlap_of(kept_a: int, kept_b: int, both: int, numel: int) -> Overlap:
    """Return the similarity of two masks of one matrix.

    Args:
        kept_a: Number of weights that one of them keeps.
        kept_b: Number of weights that the other one keeps.
        both: Number of weights that both keep.
        numel: Number of weights of the matrix.
    """
    either = kept_a + kept_b - both
    density_a, density_b = kept_a / numel, kept_b / numel
    chance_both = density_a * density_b
    chance_either = density_a + density_b - chance_both
    return Overlap(
        jaccard=both / either if either else 1.0,
        hamming=1 - (either - both) / numel,
        chance_jaccard=chance_both / chance_either if chance_either else 1.0,
        chance_hamming=1 - (chance_either - chance_both),
    )
