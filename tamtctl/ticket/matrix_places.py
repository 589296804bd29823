"""Where the matrices of an encoder are: their layers and types, and shares by these."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

_Value = TypeVar("_Value")

_LAYER = re.compile(r"(?P<before>\D*?)\.?(?P<layer>\d+)\.(?P<type>.+)\.weight")


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


def shares_by(
    key: Callable[[str], str], part: Mapping[str, int], whole: Mapping[str, int]
) -> dict[str, float]:
    """Return layer or type → how much of its matrices is counted, as a share; layers in order.

    Args:
        key: `layer_of` or `type_of`.
        part: Name of a matrix → what is counted of it, such as its zeros.
        whole: Name of at least each of these → number of its weights.
    """
    shares = {
        group: sum(part[n] for n in names) / sum(whole[n] for n in names)
        for group, names in grouped(part, key).items()
    }
    return in_order(shares) if key is layer_of else shares
