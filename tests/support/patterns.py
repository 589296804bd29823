"""Masks of every sparsity pattern by loops over plain numbers, and whether a mask is of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Place = tuple[str, int, int]  # matrix, row, column


def pairs_of(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the feed-forward matrices of the tiny models, found by their names in transformers."""
    ends = (
        (".intermediate.dense.weight", ".output.dense.weight"),
        (".ffn.lin1.weight", ".ffn.lin2.weight"),
        (".ffn.weight", ".ffn_output.weight"),
        (".mlp.Wi.weight", ".mlp.Wo.weight"),
    )
    return [
        (name, name.removesuffix(first) + second)
        for name in names
        for first, second in ends
        if name.endswith(first)
    ]


def attentions_of(names: Iterable[str]) -> list[tuple[list[str], str]]:
    """Return matrices of queries, keys and values, and of outputs, by their names in transformers.

    All of them are known by name; whatever else is in an attention is one more of the former.
    """
    ends = (
        ".attention.output.dense.weight", ".attention.out_lin.weight", ".attention.dense.weight",
        ".attention.attn.o.weight", ".attn.Wo.weight",
    )  # fmt: skip
    found = []
    for last in names:
        for end in ends:
            if last.endswith(end):
                start = last.removesuffix(end)
                firsts = [n for n in names if n.startswith(f"{start}.att") and n != last]
                found.append((firsts, last))
    return found


def units(pattern: str, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[list[list[Place]]]:
    """Yield groups of units, which compete with each other; a unit is kept or pruned as a whole."""
    if pattern == "neurons":
        for first, second in pairs_of(shapes):
            (rows, inputs), (outputs, count) = shapes[first], shapes[second]
            yield [
                [(first, r, c) for r in range(i, rows, count) for c in range(inputs)]
                + [(second, r, i) for r in range(outputs)]
                for i in range(count)
            ]
    elif found := re.fullmatch(r"heads:(\d+)", pattern):
        count = int(found[1])
        for firsts, last in attentions_of(list(shapes)):
            outputs, width = shapes[last]
            size = width // count
            yield [
                [
                    (first, part * width + h * size + i, c)
                    for first in firsts
                    for part in range(shapes[first][0] // width)
                    for i in range(size)
                    for c in range(shapes[first][1])
                ]
                + [(last, r, h * size + i) for r in range(outputs) for i in range(size)]
                for h in range(count)
            ]
    elif found := re.fullmatch(r"block:(\d+)x(\d+)", pattern):
        high, wide = map(int, found.groups())
        for name, (rows, columns) in shapes.items():
            yield [
                [(name, r + i, c + j) for i in range(high) for j in range(wide)]
                for r in range(0, rows, high)
                for c in range(0, columns, wide)
            ]
    elif found := re.fullmatch(r"(\d+):(\d+)", pattern):
        size = int(found[2])
        for name, (rows, columns) in shapes.items():
            for r in range(rows):
                for c in range(0, columns, size):
                    yield [[(name, r, c + j)] for j in range(size)]
    else:
        for name, (rows, columns) in shapes.items():
            yield [[(name, r, c)] for r in range(rows) for c in range(columns)]


def expected_masks(
    pattern: str, importance: Mapping[str, Array], sparsity: float
) -> dict[str, NDArray[np.bool_]]:
    """Return the masks that keep the units of the largest sums; the earlier one among equals."""
    masks = {name: np.ones(values.shape, bool) for name, values in importance.items()}
    for group in units(pattern, {name: values.shape for name, values in importance.items()}):
        sums = [sum(importance[name][r, c] for name, r, c in unit) for unit in group]
        pruned = int(round(len(group) * sparsity, 6) // 1)
        order = sorted(range(len(group)), key=lambda i: (-sums[i], i))
        for i in order[len(group) - pruned :]:
            for name, r, c in group[i]:
                masks[name][r, c] = False
    return masks


def is_of(pattern: str, masks: Mapping[str, NDArray[np.bool_]], sparsity: float) -> bool:
    """Whether masks keep whole units, and of every group as many as a sparsity says."""
    for group in units(pattern, {name: mask.shape for name, mask in masks.items()}):
        bits = [{bool(masks[name][r, c]) for name, r, c in unit} for unit in group]
        if any(len(one) > 1 for one in bits):
            return False
        kept = sum(one == {True} for one in bits)
        if kept != len(group) - int(round(len(group) * sparsity, 6) // 1):
            return False
    return True
