"""The similarity of tickets, and the sparsity of a ticket by layer and type of matrix.

Similarity is computed per matrix and then averaged over the matrices (TAMT, §5.3), so that the word
embeddings, a fifth of BERT's weights, do not dominate.
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


@dataclass(frozen=True)
class MatrixPlace:
    """The place of a matrix in the encoder.

    Attributes:
        layer: The number of its layer, from 0; None outside the layers.
        type: Its name within the layer, such as ``attention.self.query``.
    """

    layer: int | None
    type: str


def place_of(name: str) -> MatrixPlace:
    """Return layer and type of the matrix of this name."""
    if match := _LAYER.fullmatch(name):
        return MatrixPlace(int(match["layer"]), match["type"])
    return MatrixPlace(None, name.removesuffix(".weight"))


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


@dataclass(frozen=True)
class Share:
    """The sparsity of a part of the encoder.

    Attributes:
        total: Number of its weights.
        kept: Number of weights that are not pruned.
    """

    total: int
    kept: int

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1 - self.kept / self.total


def by_layer(ticket: TicketMetadata) -> dict[str, Share]:
    """Return layer → sparsity; ``-`` stands for outside the layers."""
    return in_order(_shares(ticket, layer_of))


def by_type(ticket: TicketMetadata) -> dict[str, Share]:
    """Return type of matrix → sparsity."""
    return _shares(ticket, type_of)


def layer_of(name: str) -> str:
    """Return the number of a matrix's layer; ``-`` outside the layers."""
    layer = place_of(name).layer
    return "-" if layer is None else str(layer)


def type_of(name: str) -> str:
    """Return the name of a matrix within its layer."""
    return place_of(name).type


def grouped(names: Iterable[str], key: Callable[[str], _Value]) -> dict[_Value, list[str]]:
    """Return key → names of matrices with this key, with keys in the order of the names."""
    groups: dict[_Value, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def in_order(layers: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return a mapping by layer in the order of the layers."""
    return dict(sorted(layers.items(), key=lambda item: -1 if item[0] == "-" else int(item[0])))


def _shares(ticket: TicketMetadata, key: Callable[[str], str]) -> dict[str, Share]:
    entries = ticket.parameters
    return {
        group: Share(sum(entries[n].numel for n in names), sum(entries[n].kept for n in names))
        for group, names in grouped(entries, key).items()
    }
