"""Every module, class or function that a text names by its whole name is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = [*sorted((ROOT / "tamtctl").rglob("*.py")), *sorted(ROOT.glob("*.md"))]
NAMED = sorted(
    {name for file in TEXTS for name in re.findall(r"`(tamtctl(?:\.\w+)+)`", file.read_text())}
)


@pytest.mark.parametrize("name", NAMED)
def test_it_is_there(name: str) -> None:
    module, found = name, None
    while found is None:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module = module.rpartition(".")[0]
    for part in name[len(module) + 1 :].split(".") if module != name else ():
        found = getattr(found, part)
