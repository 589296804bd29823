"""``python-docs-topic``: a task made from the documentation inside Python, without a download.

The classes are the largest parts of the standard library. The number of paragraphs of each is
limited, so that always naming the same class is right in a tenth of all cases. A stable fifth of
the paragraphs is the dev split.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter

from tamtctl.data.text import python_docs
from tamtctl.tasks.benchmarks.benchmark import MadeExamples

_TOPICS, _PARAGRAPHS, _WORDS = 10, 500, 8


def make() -> MadeExamples:
    """Return paragraphs, each labelled with the part of the library that it documents."""
    part_of = _parts()
    sizes = Counter(part for part in part_of.values() if part and not part.startswith("_"))
    labels = tuple(sorted(sorted(sizes, key=lambda part: (-sizes[part], part))[:_TOPICS]))
    chosen = [
        paragraph
        for label in labels
        for paragraph in sorted((p for p in part_of if part_of[p] == label), key=_hash)[
            :_PARAGRAPHS
        ]
    ]
    rows = [
        (f"python-docs paragraph {number}", {"text": paragraph, "label": part_of[paragraph]})
        for number, paragraph in enumerate(chosen)
    ]
    is_dev = [int(_hash(paragraph), 16) % 5 == 0 for paragraph in chosen]
    return MadeExamples(
        source="python-docs",
        labels=labels,
        digest=hashlib.sha256("\n".join(chosen).encode()).hexdigest(),
        records={
            "train": [row for row, held_out in zip(rows, is_dev, strict=True) if not held_out],
            "validation": [row for row, held_out in zip(rows, is_dev, strict=True) if held_out],
        },
    )


def _parts() -> dict[str, str | None]:
    """Return paragraph → the part of the library that it is in, None if it is in several."""
    part_of: dict[str, str | None] = {}
    for page in python_docs.documents():
        part = re.split(r"[./]", page.key)[0]
        for paragraph in page.text.split("\n"):
            if len(paragraph.split()) >= _WORDS:
                is_new = part_of.setdefault(paragraph, part) == part
                part_of[paragraph] = part if is_new else None
    return part_of


def _hash(paragraph: str) -> str:
    return hashlib.sha256(paragraph.encode()).hexdigest()
