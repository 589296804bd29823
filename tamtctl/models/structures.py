"""Structures: sets of weights that a mask keeps or prunes as a whole, such as blocks and neurons.

They are found from the names and shapes of matrices alone, so that a reader of a ticket finds the
same structures as the search that made it. Imports nothing heavy.

Structures are described by a view of each matrix, in which some axes number the structures. For
blocks of r × c, a matrix of R × C weights is viewed as (R/r, r, C/c, c), and axes 0 and 2 number
the blocks. The second matrix of a feed-forward network is viewed as it is, (H, I), and axis 1
numbers the neurons.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

_LAYER = re.compile(r"(.*\.\d+)\..+")  # the layer: everything up to the last number in a name
_ATTENTION = "att"  # part of the name of every attention module in transformers
_MOST_HALVES = 2  # rows of a first matrix for each neuron: the gated one and its gate


@dataclass(frozen=True)
class Slices:
    """How the weights of one matrix lie in the structures of a group.

    Attributes:
        matrix: Its name.
        shape: Its own shape.
        view: The shape of its view.
        axes: The axes of the view that number the structures: weights with the same indices on
            these axes belong to one structure.
    """

    matrix: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of structures."""
        return math.prod(self.view[axis] for axis in self.axes)

    @property
    def weights_each(self) -> int:
        """Number of the matrix's weights in each structure."""
        return math.prod(self.view) // self.count

    @property
    def others(self) -> tuple[int, ...]:
        """The axes of the view along which the weights of a structure lie."""
        return tuple(axis for axis in range(len(self.view)) if axis not in self.axes)


# Group, whose structures compete with each other → slices of its matrices; a matrix is in one group
# at most.
Structures = Mapping[str, tuple[Slices, ...]]


def blocks(shapes: Shapes, rows: int, columns: int) -> dict[str, tuple[Slices, ...]]:
    """Return group → blocks of ``rows`` × ``columns`` weights; every matrix is a group of its own.

    Raises:
        ValueError: A matrix cannot be cut into such blocks; the message names it.
    """
    found: dict[str, tuple[Slices, ...]] = {}
    for name, shape in shapes.items():
        if len(shape) != 2 or shape[0] % rows or shape[1] % columns:
            sides = " x ".join(map(str, shape))
            raise ValueError(
                f"{name} of {sides} weights is not made of blocks of {rows} x {columns}"
            )
        view = (shape[0] // rows, rows, shape[1] // columns, columns)
        found[name] = (Slices(name, shape, view, (0, 2)),)
    return found


@dataclass(frozen=True, eq=False)
class FeedForward:
    """The matrices of one feed-forward network: from hidden states to neurons, and back.

    Attributes:
        firsts: Name of each first matrix → rows of it for each neuron: 2 if one half of the rows
            gates the other half, else 1.
        second: Name of the matrix that has a column for each neuron.
        neurons: Number of neurons.
    """

    firsts: Mapping[str, int]
    second: str
    neurons: int


def with_biases(names: Collection[str]) -> set[str]:
    """Return names of matrices, and of the biases that layers may have beside them."""
    return {*names, *(name.removesuffix("weight") + "bias" for name in names)}


def layers_of(shapes: Shapes, *, in_attention: bool) -> dict[str, list[str]]:
    """Return layer → names of its matrices: those of attention, or all others."""
    layers: dict[str, list[str]] = {}
    for name in shapes:
        inner = _LAYER.fullmatch(name)
        if inner and (_ATTENTION in name.lower()) == in_attention and len(shapes[name]) == 2:
            layers.setdefault(inner[1], []).append(name)
    return layers


def feed_forwards(shapes: Shapes) -> dict[str, FeedForward]:
    """Return layer → its feed-forward network, of every layer that has one.

    The network consists of the layer's matrices outside attention: one that leads back to the
    hidden states, of shape (H, I), and one or two that come from them, (I, H) or with gates (2I,
    H).

    Raises:
        ValueError: The matrices of a layer have other shapes, or fit in several ways.
    """
    found = {}
    for layer, names in layers_of(shapes, in_attention=False).items():
        few = names if len(names) <= 1 + _MOST_HALVES else []
        ways = [one for second in few if (one := _leading_back(second, few, shapes))]
        # Square matrices fit both ways: the one that leads back comes last, in module order and in
        # alphabetical order.
        if len(names) == len(ways) == 2:
            ways = ways[-1:]
        if len(ways) != 1:
            raise ValueError(f"the matrices of {layer} are no single feed-forward network")
        found[layer] = ways[0]
    return found


def _leading_back(second: str, names: Sequence[str], shapes: Shapes) -> FeedForward | None:
    """Return the feed-forward network with this second matrix; None if the others do not fit."""
    hidden, neurons = shapes[second]
    firsts = {}
    for name in names:
        rows, columns = shapes[name]
        if name == second:
            continue
        if columns != hidden or rows % neurons or rows // neurons > _MOST_HALVES:
            return None
        firsts[name] = rows // neurons
    is_one = 1 <= sum(firsts.values()) <= _MOST_HALVES
    return FeedForward(firsts, second, neurons) if is_one else None


def neurons(shapes: Shapes) -> dict[str, tuple[Slices, ...]]:
    """Return layer → neurons: rows of the first matrices, columns of the second.

    A pruned neuron's bias needs no mask, since its column of the second matrix is zero.

    Raises:
        ValueError: There is no feed-forward network, or a layer's is ambiguous.
    """
    found = {}
    for layer, network in feed_forwards(shapes).items():
        firsts = (
            Slices(name, shapes[name], (halves, network.neurons, shapes[name][1]), (1,))
            for name, halves in network.firsts.items()
        )
        second = shapes[network.second]
        found[layer] = (*firsts, Slices(network.second, second, second, (1,)))
    if not found:
        raise ValueError("no layer has a feed-forward network of two matrices")
    return found


def is_in_layer(name: str) -> bool:
    """Whether a parameter's name is that of a numbered layer."""
    return _LAYER.fullmatch(name) is not None


def matrices_of(structures: Structures) -> list[str]:
    """Return the names of the matrices that have structures."""
    groups = structures.values()
    return [slices.matrix for slices in itertools.chain.from_iterable(groups)]
