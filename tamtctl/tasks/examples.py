"""Labelled examples, column by column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np

TRAIN = "train"  # the name of the training split in every task


@dataclass(frozen=True)
class Answers:
    """The accepted answers to one question: their texts and where each starts in the context."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """Labelled examples, column by column.

    Attributes:
        ids: The id of each in its file; ids may repeat.
        texts: One or two columns; each text is a string or, for tagged words, a tuple of words.
        labels: The label of each, of a type of the task's kind: a class id, a number, `Answers`,
            tags …
    """

    ids: list[str]
    texts: tuple[list[Any], ...]
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.ids)

    def subset(
        self, limit: int, *, of_each: Callable[[Any], Hashable] = lambda _: None
    ) -> Examples:
        """Return ``limit`` random examples; a smaller subset is always part of a larger one.

        Args:
            limit: The number of examples.
            of_each: Returns the class of a label, None if it has none. The subset then has at least
                one example of every class; a subset that has them anyway stays the same.
        """
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(self)).tolist()
        first: dict[Hashable, int] = {}
        for row in order:
            if (its_class := of_each(self.labels[row])) is not None:
                first.setdefault(its_class, row)
        kept = set(first.values())
        order = [*first.values(), *(row for row in order if row not in kept)]
        return self.take(sorted(order[:limit]))

    def take(self, rows: Sequence[int]) -> Examples:
        """Return the examples of these rows, in the order of ``rows``."""
        return Examples(
            [self.ids[i] for i in rows],
            tuple([column[i] for i in rows] for column in self.texts),
            [self.labels[i] for i in rows],
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of texts and labels, which does not depend on the file they came from."""
        digest = hashlib.sha256()
        for row in zip(*self.texts, self.labels, strict=True):
            line = [_plain(value) for value in row]
            digest.update(json.dumps(line).encode() + b"\n")
        return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Return a text or a label as plain JSON values."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
