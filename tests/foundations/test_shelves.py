"""What can be put on a shelf, and what is refused with a hint."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

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
