"""Structures of weights that a mask keeps or prunes as a whole: blocks of a matrix, neurons.

Found by the names and shapes of matrices alone, so that whoever has nothing but a ticket finds the
same ones as the search that made it. Imports nothing heavy.

A group of structures is told as the shapes to view its matrices in. Two axes of the view of a
matrix of R × C weights say where a block of r × c lies, (R/r, r, C/c, c), and one axis of the
second matrix of a feed-forward network says which neuron a column is of, (H, I).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

_LAYER = re.compile(r"(.*\.\d+)\..+")  # up to the last number in a name
_ATTENTION = "att"  # is in the name of every attention module of transformers
_MOST_HALVES = 2  # of a first matrix: what is gated, and its gate


@dataclass(frozen=True)
class Slices:
    """How the weights of one matrix lie in the structures of a group.

    Attributes:
        matrix: Its name.
        shape: Its own shape.
        view: The shape to view it in.
        axes: The axes of the view that number the structures: what has the same place on them is of
            one structure.
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
        """Weights of the matrix in each structure."""
        return math.prod(self.view) // self.count

    @property
    def others(self) -> tuple[int, ...]:
        """The axes of the view along which the weights of a structure lie."""
        return tuple(axis for axis in range(len(self.view)) if axis not in self.axes)


# Name of a group → how its matrices lie in its structures; a matrix is in one group at most.
Structures = Mapping[str, tuple[Slices, ...]]


def blocks(shapes: Shapes, rows: int, columns: int) -> dict[str, tuple[Slices, ...]]:
    """Return the blocks of R × C weights that every matrix is made of, each matrix a group.

    Raises:
        ValueError: A matrix is not made of such blocks; the message says which.
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
        firsts: Name → how many times each neuron has a row of it: twice where one half of the rows
            gates the other.
        second: The matrix that has a column for each neuron.
        neurons: How many there are.
    """

    firsts: Mapping[str, int]
    second: str
    neurons: int


def feed_forwards(shapes: Shapes) -> dict[str, FeedForward]:
    """Return name of a layer → its feed-forward network, of every layer that has one.

    They are the matrices of a layer that are no attention's: one that leads back to the hidden
    states, of shape (H, I), and one or two that come from there, (I, H) or with gates (2I, H).

    Raises:
        ValueError: Those of a layer are something else, or can be told apart in several ways.
    """
    layers: dict[str, list[str]] = {}
    for name in shapes:
        inner = _LAYER.fullmatch(name)
        if inner and _ATTENTION not in name.lower() and len(shapes[name]) == 2:
            layers.setdefault(inner[1], []).append(name)
    found = {}
    for layer, names in layers.items():
        few = names if len(names) <= 1 + _MOST_HALVES else []
        ways = [one for second in few if (one := _leading_back(second, few, shapes))]
        # Square matrices fit both ways: the one that leads back comes last, in a model and in
        # the alphabet.
        if len(names) == len(ways) == 2:
            ways = ways[-1:]
        if len(ways) != 1:
            raise ValueError(f"the matrices of {layer} are no single feed-forward network")
        found[layer] = ways[0]
    return found


def _leading_back(second: str, names: Sequence[str], shapes: Shapes) -> FeedForward | None:
    """Return the feed-forward network whose second matrix is this one, if all others lead to it."""
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
    """Return the neurons of every feed-forward network: rows of the firsts, columns of the second.

    The bias of a neuron needs no mask: its column of the second matrix is zero.

    Raises:
        ValueError: There is no feed-forward network, or a layer's cannot be told.
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
    """Whether a parameter is one of a layer, which are numbered."""
    return _LAYER.fullmatch(name) is not None


def matrices_of(structures: Structures) -> list[str]:
    """Return the matrices that have structures."""
    groups = structures.values()
    return [slices.matrix for slices in itertools.chain.from_iterable(groups)]
