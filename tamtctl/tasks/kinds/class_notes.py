"""Notes on labels that are taken for classes, a line each.

A note never stops a run, as the labels may be right; it says what they were taken for.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from tamtctl.tasks.examples import Examples

_SHOWN = 10  # classes that a note names, at most
_NEARLY_ALL = 0.75  # share of numbers from which the other labels may be mistakes
_MANY_NUMBERS = 20  # whole numbers as classes from which they may be measurements
_NO_LABEL = ("-1", "-100")  # what data sets write for a missing label
_MISSING = frozenset({"n/a", "na", "nan", "none", "null", "?", "-", "unknown", "<na>", "#n/a"})
_SEPARATORS = ";|,"


def own_class_notes(values: Sequence[Any], *, is_guessed: bool) -> list[str]:
    """Return notes on the labels of a file that are taken for classes.

    Args:
        values: The labels as they are in the file.
        is_guessed: Whether the kind was guessed from the labels.
    """
    counts = Counter(str(value) for value in values)
    names = sorted(counts)
    notes = [*_numbers_among_names(counts, len(values)), *_twins(names), *_several_in_one(names)]
    if is_guessed and len(names) > _MANY_NUMBERS and all(re.fullmatch(r"-?\d+", n) for n in names):
        notes.append(
            f"the labels are {len(names)} whole numbers, each taken for a class; --label-kind "
            "regression takes them for numbers"
        )
    for name in names:
        if name in _NO_LABEL or (name in ("-1.0", "-100.0")):
            notes.append(
                f"{name} is among the classes ({times(counts[name])}); where it stands for "
                "examples without a label, leave them out"
            )
        if name.strip().lower() in _MISSING and len(names) > 1:
            notes.append(f"{name!r} is among the classes ({times(counts[name])})")
        if name != name.strip():
            notes.append(f"the class {name!r} begins or ends with a space")
    return notes


def missing_class_notes(labels: Sequence[str], examples: Examples, where: str) -> list[str]:
    """Return notes on classes that a split has no example of, and on a split of a single class.

    Args:
        labels: The classes.
        examples: The examples of the split, with class ids.
        where: The name of the split.
    """
    there = set(examples.labels)
    missing = [label for i, label in enumerate(labels) if i not in there]
    if len(there) == 1:
        return [f"every {where} label is {labels[examples.labels[0]]!r}"]
    return (
        [f"no example of {listed(missing)} among the {len(examples):,} {where} ones"]
        if missing
        else []
    )


def times(count: int) -> str:
    """Return a count in words, such as once."""
    return "once" if count == 1 else f"{count:,} times"


def listed(names: Sequence[str]) -> str:
    """Return the first few names, joined by commas."""
    shown = [n if n == n.strip() and n.isprintable() else repr(n) for n in names[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(names) > _SHOWN else "")


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return name.strip().lower() not in _MISSING


def _numbers_among_names(counts: Counter[str], total: int) -> list[str]:
    others = [name for name in counts if not _is_number(name)]
    numbers = total - sum(counts[name] for name in others)
    if not others or numbers < _NEARLY_ALL * total:
        return []
    return [
        f"{numbers:,} of {total:,} labels are numbers, but {listed(sorted(others)[:3])} is not: "
        f"they are taken for {len(counts)} classes; correct it, or leave the example out, and use "
        "--label-kind to choose"
    ]


def _twins(names: Sequence[str]) -> list[str]:
    """Return a note for every group of classes that may be one class in different spellings."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_plainly(name)].append(name)
    return [
        f"{' and '.join(map(repr, group))} are taken for different classes"
        for group in groups.values()
        if len(group) > 1
    ]


def _plainly(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name)
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf").strip().casefold()
    plain = {"true": "1", "false": "0"}.get(plain, plain)
    return _as_number(plain) if _is_number(plain) else plain


def _as_number(plain: str) -> str:
    """Return a number in a form that is equal for equal numbers, of any size: 1e1 for 10.0."""
    sign, digits, exponent = Decimal(plain).as_tuple()
    if not isinstance(exponent, int):  # infinite
        return plain
    written = "".join(map(str, digits)).lstrip("0")
    kept = written.rstrip("0")
    return f"{'-' * sign}{kept}e{exponent + len(written) - len(kept)}" if kept else "0"


def _several_in_one(names: Sequence[str]) -> list[str]:
    """Return a note if labels look like several in one cell, or have a decimal comma."""
    lists = [name for name in names if re.fullmatch(r"\[.*\]|\(.*,.*\)|\{.*\}", name.strip())]
    for mark in _SEPARATORS:
        parts = {name: [p.strip() for p in name.split(mark) if p.strip()] for name in names}
        seen = Counter(part for own in parts.values() for part in own)
        lists += [n for n, own in parts.items() if len(own) > 1 and any(seen[p] > 1 for p in own)]
    has_commas = any("," in name for name in names)
    if has_commas and all(re.fullmatch(r"[+-]?\d+(,\d+)?", name.strip()) for name in names):
        return [
            f"{listed([n for n in names if ',' in n][:1])} is taken for the name of a class; of a "
            "number, write the comma as a point; several labels in a cell are not taken apart"
        ]
    if not lists:
        return []
    several = f"{len(lists)} classes look" if len(lists) > 1 else "a class looks"
    return [
        f"{several} like several labels in one cell, for example {lists[0]!r}; each is taken for a "
        "single class"
    ]
