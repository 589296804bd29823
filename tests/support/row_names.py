"""Finding code that branches on the name of a row of a shelf."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import tamtctl

PACKAGE = Path(tamtctl.__file__).parent


def branches(names: Collection[str], shelves: Collection[str]) -> list[str]:
    """Return where the package branches on a name: ``file:line name``.

    A branch is a comparison, a membership, a case of ``match``, or a key of a dictionary. Defaults
    and arguments may name a row.

    Args:
        names: Of the rows.
        shelves: The folders, below the package, that may: those of the shelf itself.
    """
    return [
        f"{file.relative_to(PACKAGE)}:{line} {name}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not any(file.is_relative_to(PACKAGE / shelf) for shelf in shelves)
        for line, name in _named(ast.parse(file.read_text(encoding="utf-8")))
        if name in names
    ]


def _named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that a branch is taken by."""
    for node in ast.walk(tree):
        tested: list[ast.AST | None] = []
        if isinstance(node, ast.Compare):
            tested = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            tested = [node.value]
        elif isinstance(node, ast.Dict):
            tested = list(node.keys)
        elif isinstance(node, ast.Subscript):
            tested = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_lookup = node.func.attr in ("get", "pop", "startswith", "endswith", "index", "count")
            tested = list(node.args[:1]) if is_lookup else []
        for one in tested:
            yield from _strings(one)


def _strings(node: ast.AST | None) -> Iterator[tuple[int, str]]:
    """Yield a string, or those of a tuple, a list or a set that is written out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from _strings(element)
