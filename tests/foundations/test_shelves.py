"""What can be put on a shelf, and what is refused with a hint."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Row, Shelf


@dataclass(frozen=True, kw_only=True)
class Fruit(Row):
    colour: str = "green"


def apples() -> Shelf[Fruit]:
    return Shelf("fruit", [Fruit(name="apple", code="fruit.apple")], reserved="stone|pit-.*")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("apple", "there is a fruit 'apple' already; give the new one another name"),
        ("stone", "a fruit cannot be called 'stone', a reserved name"),
        ("pit-a", "a fruit cannot be called 'pit-a', a reserved name"),
        ("Sour Plum", "a fruit cannot be called 'Sour Plum': .*, such as 'sour-plum'"),
        ("a+b", "a fruit cannot be called 'a\\+b': .*, such as 'a-b'"),
        ("a,b", "a fruit cannot be called 'a,b'"),
        ("", "a fruit cannot be called ''"),
        (3, "the name of a fruit is a text, not 3"),
        ("../plum", "a fruit cannot be called '../plum': .*, such as 'plum'"),
        ("p" * 41, "at most 40 lower case letters"),
    ],
)
def test_a_bad_name_is_refused_with_a_hint(name: str, line: str) -> None:
    shelf = apples()
    with pytest.raises(UsageError, match=line):
        shelf.register(Fruit(name=name, code="x"))
    assert list(shelf) == ["apple"]


def test_a_row_of_another_shelf_is_refused() -> None:
    shelf = apples()
    with pytest.raises(UsageError, match=r"a fruit is a row of the class Fruit, not Row\(name="):
        shelf.register(Row(name="plum", code="x"))  # type: ignore[arg-type]
    assert list(shelf) == ["apple"]


def test_a_row_stands_behind_the_others_and_may_be_there_for_a_while() -> None:
    shelf = apples()
    with shelf.holding(Fruit(name="plum", code="x", colour="blue")) as plum:
        assert list(shelf) == ["apple", "plum"]
        assert shelf.find("plum") is plum
    assert list(shelf) == ["apple"]
    with pytest.raises(UsageError, match="there is no fruit 'aple', only apple; did you mean app"):
        shelf.find("aple")


def test_code_is_a_module_or_an_object_and_what_it_lacks_is_said() -> None:
    def ripe() -> bool:
        return True

    assert Row(name="plum", code=SimpleNamespace(ripe=ripe)).function("ripe")()
    assert Row(name="plum", code="math").function("sqrt")(4) == 2
    with pytest.raises(UsageError, match="the code of 'plum' defines no function ripe"):
        Row(name="plum", code="math").function("ripe")
    with pytest.raises(UsageError, match="the code of 'plum', module no_such, cannot be imported"):
        Row(name="plum", code="no_such").function("ripe")


def test_the_digest_of_foreign_code_follows_its_files_and_what_was_typed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ripeness.py").write_text("def ripe():\n    return 1\n")
    (tmp_path / "plums.py").write_text("from ripeness import ripe\n")
    row = Row(name="plum", code="plums")
    before = row.code_digest()
    (tmp_path / "ripeness.py").write_text("def ripe():\n    return 2\n")
    assert row.code_digest() != before
    (tmp_path / "stones.py").write_text("class Stone:\n    weight = 1\n")
    (tmp_path / "plums2.py").write_text("from stones import Stone\n")
    before = Row(name="plum", code="plums2").code_digest()
    (tmp_path / "stones.py").write_text("class Stone:\n    weight = 2\n")
    assert Row(name="plum", code="plums2").code_digest() != before
    typed = []
    for value in (1, 2, 2):
        namespace: dict[str, Any] = {}
        exec(f"def ripe():\n    return {value}\n", namespace)  # as in a notebook
        typed.append(Row(name="plum", code=SimpleNamespace(**namespace)).code_digest())
        assert not Row(name="plum", code=SimpleNamespace(**namespace)).is_in_files
    assert typed[0] != typed[1] == typed[2]
    assert Row(name="own", code="tamtctl.pruning.criteria.wanda").is_in_files
    script = """
from functools import cache
from tamtctl.foundations.shelves import Row
POWER, OTHER = 5, object()
def helped():
    return helped, 6
class Stone:
    @property
    def weight(self):
        return 7
    @classmethod
    def size(cls):
        return 9
def grown(sun):
    def growing():
        return sun
    return growing
class Code:
    grown = staticmethod(grown(4))
    def ripe(self, *, colours={"blue": 1}):
        return [lambda: one in {"a", "b", "c", POWER} for one in "abc"], 1
    @cache
    def sweet(self):
        return 3, helped(), Stone(), OTHER
print(Row(name="plum", code=Code()).code_digest(), Row(name="plum", code=Code()).is_in_files)
"""
    changes = [
        ("1}", "2}"), ('"b"', '"d"'), (", 1", ", 2"), ("return 3", "return 4"), ("= 5", "= 8"),
        ("d, 6", "d, 8"), ("return 7", "return 8"),
        ("return 9", "return 8"), ("n(4", "n(8"),
    ]  # fmt: skip
    said = [
        subprocess.run(
            [sys.executable, "-c", script.replace(*change)],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # of an object whose class is in no file
        for change in [("", ""), ("", ""), *changes]
    ]  # fmt: skip
    digests = [digest for digest, _ in said]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 1 + len(changes)
    assert {where for _, where in said} == {"False"}
    (tmp_path / "broken_plums.py").write_text("def ripe(:\n")
    with pytest.raises(UsageError, match="module broken_plums, cannot be imported: invalid syntax"):
        Row(name="plum", code="broken_plums").code_digest()
