"""What a person should know of a task's examples before a score is believed, a line each.

None of this stops a run: labels may be what they seem. But what they were taken for is said.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tamtctl.data.padded_batches import Features
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES
from tamtctl.tasks.labelled.records import Examples
from tamtctl.tasks.registry import Task

_SHOWN = 10  # classes, at most
_NEARLY_ALL = 0.75  # of the labels are numbers: then perhaps all of them should be
_MANY_NUMBERS = 20  # classes that are whole numbers: then perhaps they are measurements
_NO_LABEL = ("-1", "-100")  # what datasets write where there is no gold label
_MISSING = frozenset({"n/a", "na", "nan", "none", "null", "?", "-", "unknown", "<na>", "#n/a"})
_ENOUGH_OTHERS, _FAR = 8, 20.0  # labels; times their deviation that a label brings it to
_SEPARATORS = ";|,"


def label_summary(task: Task, examples: Examples) -> str:
    """Return what the labels were taken for: the classes, or the range of the numbers."""
    if task.kind == "span":
        return "answers in the text"
    if task.kind == "regression":
        return f"regression, {_range(examples.labels)}"
    return f"{len(task.labels)} classes: {_listed(task.labels)}"


def own_label_notes(values: Sequence[Any], *, is_guessed: bool) -> list[str]:
    """Return notes on the labels of a file that are taken for classes.

    Args:
        values: As they are in the file.
        is_guessed: Whether nobody asked for classes.
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
                f"{name} is among the classes ({_times(counts[name])}); where it stands for "
                "examples without a label, leave them out"
            )
        if name.strip().lower() in _MISSING and len(names) > 1:
            notes.append(f"{name!r} is among the classes ({_times(counts[name])})")
        if name != name.strip():
            notes.append(f"the class {name!r} begins or ends with a space")
    return notes


def number_notes(labels: Sequence[float], where: str) -> list[str]:
    """Return notes on labels that are numbers."""
    if len(set(labels)) == 1:
        return [f"every {where} label is {labels[0]:g}"]
    notes = _far_note(labels, where)
    low = [value for value in (-1.0, -100.0) if value in labels]
    rest = [value for value in labels if value not in low]
    if not low or not rest or min(rest) < 0:
        return notes
    return notes + [
        f"{value:g} is among the {where} labels ({_times(labels.count(value))}), and no other is "
        "below 0; where it stands for examples without a label, leave them out"
        for value in low
    ]


def _far_note(labels: Sequence[float], where: str) -> list[str]:
    """Return a note on a single label that is so far from the others that it decides the scale."""
    values = np.array(labels)
    farthest = int(np.abs(values - np.median(values)).argmax())
    others = np.delete(values, farthest)
    if len(others) < _ENOUGH_OTHERS or not 0 < others.std() * _FAR < values.std():
        return []
    return [
        f"the {where} label {values[farthest]:g} is far from all others ({_range(others)}), which "
        "it makes look alike; check it"
    ]


def few_note(examples: Examples, where: str) -> list[str]:
    """Return a note where there are too few examples to say how sure a score is."""
    if len(examples) >= MIN_EXAMPLES:
        return []
    return [
        f"too few {where} examples ({len(examples)}) to tell: at least {MIN_EXAMPLES} are needed "
        "for a standard error"
    ]


def class_notes(task: Task, examples: Examples, where: str) -> list[str]:
    """Return notes on classes that a split has no example of, and on a split of a single class."""
    if task.kind != "classification":
        return []
    there = set(examples.labels)
    missing = [label for i, label in enumerate(task.labels) if i not in there]
    if len(there) == 1:
        return [f"every {where} label is {task.labels[examples.labels[0]]!r}"]
    return (
        [f"no example of {_listed(missing)} among the {len(examples):,} {where} ones"]
        if (missing)
        else []
    )


def overlap_note(train: Examples, dev: Examples) -> list[str]:
    """Return a note on dev examples whose texts are among those that are trained on."""
    seen = set(zip(*train.texts, strict=True))
    shared = sum(row in seen for row in zip(*dev.texts, strict=True))
    if not shared:
        return []
    count = "all" if shared == len(dev) else f"{shared:,} of the"
    return [
        f"{count} {len(dev):,} dev examples are among those to train on, too: the scores are not "
        "of unseen text"
    ]


def cut_notes(
    task: Task, parts: Sequence[Features], limits: tuple[int, int], advice: str
) -> list[str]:
    """Return a note on texts that are too long and are cut.

    Args:
        task: Its questions are cut at another length than other texts.
        parts: What is read.
        limits: Tokens that are read, and that the model can take.
        advice: How to read more tokens, with ``{}`` for their number.
    """
    cut = sum(features.cut for features in parts)
    if not cut:
        return []
    if task.kind == "span":
        are = "questions are" if cut > 1 else "question is"
        return [f"{cut:,} {are} longer than what is read of a question, and cut"]
    total = sum(map(len, parts))
    length, most = limits
    enough = min(2 ** (max(features.longest for features in parts) - 1).bit_length(), most)
    more = advice.format(enough) if enough > length else "the model cannot take more"
    return [
        f"{_percent(cut, total)} of the texts ({cut:,} of {total:,}) are longer than {length} "
        f"tokens and are cut; {more}"
    ]


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.0f} %" if part == whole or 1 <= share < 99 else f"{share:.2g} %"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _range(labels: Iterable[float]) -> str:
    values = list(labels)
    return f"{min(values):g} to {max(values):g}"


def _listed(names: Sequence[str]) -> str:
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
        f"{numbers:,} of {total:,} labels are numbers, but {_listed(sorted(others)[:3])} is not: "
        f"they are taken for {len(counts)} classes; correct it, or leave the example out, and use "
        "--label-kind to choose"
    ]


def _twins(names: Sequence[str]) -> list[str]:
    """Return a note for every group of classes that are spelt differently and may be one."""
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
    return f"{float(plain) + 0.0:g}" if _is_number(plain) else plain


def _several_in_one(names: Sequence[str]) -> list[str]:
    """Return a note where labels look as if there were several in a cell, or a decimal comma."""
    lists = [name for name in names if re.fullmatch(r"\[.*\]|\(.*,.*\)|\{.*\}", name.strip())]
    for mark in _SEPARATORS:
        parts = {name: [p.strip() for p in name.split(mark) if p.strip()] for name in names}
        seen = Counter(part for own in parts.values() for part in own)
        lists += [n for n, own in parts.items() if len(own) > 1 and any(seen[p] > 1 for p in own)]
    has_commas = any("," in name for name in names)
    if has_commas and all(re.fullmatch(r"[+-]?\d+(,\d+)?", name.strip()) for name in names):
        return [
            f"{_listed([n for n in names if ',' in n][:1])} is taken for the name of a class; of a "
            "number, write the comma as a point; several labels in a cell are not taken apart"
        ]
    if not lists:
        return []
    several = f"{len(lists)} classes look" if len(lists) > 1 else "a class looks"
    return [
        f"{several} like several labels in one cell, for example {lists[0]!r}; each is taken for a "
        "single class"
    ]
