"""No code outside a shelf asks which row it has: what it wants to know is a fact of the row."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

import tamtctl
from tamtctl.comparison.sections.table import SECTIONS
from tamtctl.pruning.criteria import CRITERIA
from tamtctl.pruning.objectives import objectives
from tamtctl.pruning.patterns import PATTERNS
from tamtctl.pruning.statistics import STATISTICS
from tamtctl.tasks.benchmarks.table import BENCHMARKS, zero_shot_tasks
from tamtctl.tasks.kinds.table import KINDS

PACKAGE = Path(tamtctl.__file__).parent
SHELVES: dict[str, Collection[str]] = {  # folder → names of its rows
    "comparison/sections": SECTIONS,
    "pruning/criteria": CRITERIA,
    "pruning/objectives": objectives(),
    "pruning/patterns": PATTERNS,
    "pruning/statistics": STATISTICS,
    "tasks/benchmarks": {*BENCHMARKS, *zero_shot_tasks()},
    "tasks/kinds": KINDS,
}
# Words that are no choice between rows.
NO_BRANCHES = {
    "pruning/recipes.py": {"kd"},  # a recipe is a choice of values for what it knows
    "models/heads.py": {"token-classification"},  # what transformers calls a head
    "models/onnx/graph.py": {"token-classification"},  # the same
    "tasks/finetuning/seed_run.py": {"random"},  # the state of the random numbers
    "ticket/format/head_format.py": {"embedding"},  # a part of a matrix's name
    # What the first tickets were measured in, which did not say it: a list that is closed.
    "ticket/measured.py": {"mlm", "kd", "mlm+kd"},
}
LOOK_UPS = {"get", "pop", "setdefault", "startswith", "endswith", "index", "count"}


def branches(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that code compares with, matches, or looks up."""
    for node in ast.walk(tree):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        elif isinstance(node, ast.Dict):
            asked = [key for key in node.keys if key]
        elif isinstance(node, ast.Subscript):
            asked = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asked = [*node.args] if node.func.attr in LOOK_UPS else []
        for part in asked:
            elements = part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]
            for one in elements:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    yield one.lineno, one.value


@cache
def branches_in(file: Path) -> list[tuple[int, str]]:
    return list(branches(ast.parse(file.read_text())))


def found(source: str, names: Collection[str]) -> list[str]:
    return [name for _, name in branches(ast.parse(source)) if name in names]


@pytest.mark.parametrize("folder", SHELVES)
def test_no_code_outside_a_shelf_branches_on_the_name_of_a_row(folder: str) -> None:
    names = SHELVES[folder]
    assert (PACKAGE / folder / "table.py").is_file()
    told = [
        f"{file.relative_to(PACKAGE)}:{line} {name!r}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if PACKAGE / folder not in file.parents
        for line, name in branches_in(file)
        if name in names
        and name not in NO_BRANCHES.get(file.relative_to(PACKAGE).as_posix(), set())
    ]
    assert told == []


@pytest.mark.parametrize(
    "source",
    [
        "if name == 'toy': pass",
        "x = 1 if 'toy' != name else 2",
        "name in ('other', 'toy')",
        "'toy' in name",
        "{'toy': 1}[name]",
        "table['toy']",
        "table.get('toy')",
        "name.startswith('toy')",
        "match name:\n    case 'toy': pass",
        "match name:\n    case 'other' | 'toy': pass",
    ],
)
def test_a_branch_is_seen_in_every_form(source: str) -> None:
    assert found(source, {"toy"}) == ["toy"]


def test_a_default_is_no_branch() -> None:
    assert found("def search(method='toy', *, methods=('toy', 'other')): pass", {"toy"}) == []
