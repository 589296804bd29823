"""Self-attention: which matrices of a layer make its queries, keys and values, and lead back.

They are found from names and shapes alone, as all structures are. That a head's rows lie together
in a matrix, head after head, is how transformers lays them out; it has one older layout of stacked
matrices, in which queries, keys and values alternate, and which is not recognised here. Imports
nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tamtctl.models.structures import Shapes, Slices, layers_of

# The module of a matrix that hidden states go into: of queries, keys or values, of contents or of
# positions; or of all three of them, stacked.
_FIRST = re.compile(r"(pos_)?(query|key|value|[qkv])(_lin|_proj)?", re.IGNORECASE)
_STACKED = re.compile(r"w?qkv(_proj)?", re.IGNORECASE)
_KINDS = frozenset("qkv")


@dataclass(frozen=True, eq=False)
class Attention:
    """The matrices of one self-attention.

    Attributes:
        firsts: Name of each matrix that hidden states go into → parts of its rows, which all have
            every head: 3 where queries, keys and values are stacked, else 1.
        last: Name of the matrix that leads back to hidden states; its columns are those of heads.
        width: Rows of a part, which all heads have together.
    """

    firsts: Mapping[str, int]
    last: str
    width: int


def attentions(shapes: Shapes) -> dict[str, Attention]:
    """Return layer → its self-attention, of every layer that has one.

    Raises:
        ValueError: The attention matrices of a layer are others than those of one self-attention.
    """
    return {
        layer: _attention(layer, names, shapes)
        for layer, names in layers_of(shapes, in_attention=True).items()
    }


def heads(shapes: Shapes, count: int) -> dict[str, tuple[Slices, ...]]:
    """Return layer → attention heads: rows of queries, keys and values, columns of the output.

    A pruned head's biases need no mask, since its columns of the output matrix are zero.

    Args:
        shapes: Name → shape of every matrix.
        count: How many heads a layer has.

    Raises:
        ValueError: There is no self-attention, or a layer's is not made of so many heads.
    """
    found = {}
    for layer, one in attentions(shapes).items():
        if one.width % count:
            raise ValueError(f"the attention of {layer}, {one.width} wide, has no {count} heads")
        rows = one.width // count
        firsts = (
            Slices(name, shapes[name], (parts, count, rows, shapes[name][1]), (1,))
            for name, parts in one.firsts.items()
        )
        last = shapes[one.last]
        found[layer] = (*firsts, Slices(one.last, last, (last[0], count, rows), (1,)))
    if not found:
        raise ValueError("no layer has a self-attention")
    return found


def _attention(layer: str, names: list[str], shapes: Shapes) -> Attention:
    """Return the self-attention of some matrices of a layer.

    Raises:
        ValueError: They are others than those of one self-attention.
    """
    modules = {name: name.removesuffix(".weight").rpartition(".")[2] for name in names}
    stacked = [name for name in names if _STACKED.fullmatch(modules[name])]
    apart = [name for name in names if _FIRST.fullmatch(modules[name])]
    lasts = [name for name in names if name not in (*stacked, *apart)]
    kinds = [
        found[2][0].lower()
        for name in apart
        if (found := _FIRST.fullmatch(modules[name])) and not found[1]
    ]
    is_one = (not apart and len(stacked) == 1) or (not stacked and sorted(kinds) == sorted(_KINDS))
    if not is_one or len(lasts) != 1:
        raise ValueError(
            f"the attention matrices of {layer} are not those of queries, keys, values and one "
            "output"
        )
    width = shapes[lasts[0]][1]
    firsts = dict.fromkeys(stacked, len(_KINDS)) | dict.fromkeys(apart, 1)
    for name, parts in firsts.items():
        if shapes[name][0] != parts * width:
            raise ValueError(f"{name} has {shapes[name][0]} rows, and not {parts * width}")
    return Attention(firsts, lasts[0], width)
