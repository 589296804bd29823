"""How alike two tickets are, and where in the encoder a ticket keeps its weights.

Similarity is computed per matrix and then averaged over the matrices (TAMT, §5.3), so that the word
embeddings, a fifth of BERT's weights, do not drown the others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.masks import count_kept
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.ticket import Ticket

_Value = TypeVar("_Value")

_LAYER = re.compile(r"(?P<before>\D*?)\.?(?P<layer>\d+)\.(?P<type>.+)\.weight")


@dataclass(frozen=True)
class Overlap:
    """How alike two masks are: those of one matrix, or on average over the matrices.

    Attributes:
        jaccard: Weights that both keep, as a share of those that at least one keeps.
        hamming: Share of the weights that both keep or both prune.
        chance_jaccard: The Jaccard similarity that random masks of the same densities would have.
        chance_hamming: The Hamming similarity that they would have.
    """

    jaccard: float
    hamming: float
    chance_jaccard: float
    chance_hamming: float


@dataclass(frozen=True)
class Similarity:
    """How alike two tickets are.

    Attributes:
        a: Index of one ticket in the list that was compared.
        b: Index of the other.
        average: Mean over the matrices that both tickets cover.
        matrices: Name → how alike the two masks of each of these matrices are.
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


@dataclass(frozen=True)
class Place:
    """Where in the encoder a matrix is.

    Attributes:
        layer: The number of its layer, from 0; None outside the layers.
        type: What it is called in its layer, such as ``attention.self.query``.
    """

    layer: int | None
    type: str


def place_of(name: str) -> Place:
    """Return layer and type of a matrix by its name."""
    if match := _LAYER.fullmatch(name):
        return Place(int(match["layer"]), match["type"])
    return Place(None, name.removesuffix(".weight"))


def similarities(tickets: Sequence[Ticket]) -> list[Similarity]:
    """Compare every two tickets.

    Raises:
        TicketError: Two of them have no matrix in common, or one is still encoded as ``delta``.
    """
    return [
        _similarity(i, j, tickets[i], tickets[j])
        for i, j in itertools.combinations(range(len(tickets)), 2)
    ]


def _similarity(i: int, j: int, a: Ticket, b: Ticket) -> Similarity:
    common = [
        name
        for name, entry in a.parameters.items()
        if name in b.parameters and b.parameters[name].shape == entry.shape
    ]
    if not common:
        raise TicketError(
            f"tickets of {a.base_model.id} and {b.base_model.id} have no matrix of the same name "
            "and shape; compare tickets of the same model"
        )
    matrices = {name: _overlap(a, b, name) for name in common}
    average = averaged(matrices.values())
    # Not by the fingerprints: those of two tickets that cover different matrices differ.
    same_base = all(a.parameters[name].sha256 == b.parameters[name].sha256 for name in common)
    return Similarity(i, j, average, matrices, same_base)


def _overlap(a: Ticket, b: Ticket, name: str) -> Overlap:
    entry = a.parameters[name]
    both = 0
    for bits_a, bits_b in zip(a.packed_mask(name), b.packed_mask(name), strict=True):
        both += count_kept(bits_a & bits_b)
    return overlap_of(entry.kept, b.parameters[name].kept, both, entry.numel)


def averaged(overlaps: Iterable[Overlap]) -> Overlap:
    """Return the average over the matrices, of which there is at least one."""
    values = np.array([list(asdict(overlap).values()) for overlap in overlaps])  # (m, 4)
    return Overlap(*map(float, values.mean(0)))


def overlap_of(kept_a: int, kept_b: int, both: int, numel: int) -> Overlap:
    """Return how alike two masks of one matrix are.

    Args:
        kept_a: How many weights one of them keeps.
        kept_b: How many the other one keeps.
        both: How many both keep.
        numel: How many weights the matrix has.
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


@dataclass(frozen=True)
class Share:
    """The sparsity of a part of the encoder.

    Attributes:
        total: Its weights.
        kept: How many of them are not pruned.
    """

    total: int
    kept: int

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1 - self.kept / self.total


def by_layer(ticket: TicketMetadata) -> dict[str, Share]:
    """Return the sparsity of every layer, and of what is outside the layers as ``-``."""
    return in_order(_shares(ticket, layer_of))


def by_type(ticket: TicketMetadata) -> dict[str, Share]:
    """Return the sparsity of every type of matrix."""
    return _shares(ticket, type_of)


def layer_of(name: str) -> str:
    """Return the number of a matrix's layer; ``-`` outside the layers."""
    layer = place_of(name).layer
    return "-" if layer is None else str(layer)


def type_of(name: str) -> str:
    """Return what a matrix is in its layer."""
    return place_of(name).type


def grouped(names: Iterable[str], key: Callable[[str], _Value]) -> dict[_Value, list[str]]:
    """Return key → the matrices that have it, in the order in which the keys turn up."""
    groups: dict[_Value, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def in_order(layers: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return what is known by layer in the order of the layers."""
    return dict(sorted(layers.items(), key=lambda item: -1 if item[0] == "-" else int(item[0])))


def _shares(ticket: TicketMetadata, key: Callable[[str], str]) -> dict[str, Share]:
    entries = ticket.parameters
    return {
        group: Share(sum(entries[n].numel for n in names), sum(entries[n].kept for n in names))
        for group, names in grouped(entries, key).items()
    }
