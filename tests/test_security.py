"""Every promise of SECURITY.md names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_promise_names_its_tests() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    promises = re.findall(r"^\| (?!promise|-)[^|]+\| ([^|]+)\|$", text, re.MULTILINE)
    assert len(promises) >= 10
    for shown_by in promises:
        assert re.search(r"`tests/\w+/\w+\.py::test_\w+`", shown_by)
    for file, name in re.findall(r"`(tests/\w+/\w+\.py)::(test_\w+)`", text):
        tree = ast.parse((ROOT / file).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{file} has no {name}"
