"""Measuring how much of a held-out text is also trained on, and how much of it is repeated.

Both make its loss look better or more certain than it is: text that was trained on says nothing
about other text, and repeated text counts as several sequences. The shares are of characters, by
whole lines, since two files may hold the same lines in different documents.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tamtctl.data.text.documents import Document

_MUCH = 0.05  # share below which there is no note: titles and the like often recur
_MOST_LINES = 2_000_000  # lines of a held-out text that are remembered, at some hundred bytes each
_MOST_TRAINED = 2**24  # lines of a training text, at eight bytes each

TRAINED_ON, SAID_TWICE = "trained_on", "said_twice"


@dataclass
class Repeats:
    """Gets the documents of a held-out text and of the training text.

    Attributes:
        is_held_out_first: Whether all held-out documents come first, so that no other has to be
            remembered.
    """

    is_held_out_first: bool
    _held_out: dict[int, int] = field(default_factory=dict)  # hash of a line → its characters
    _trained: array[int] = field(default_factory=lambda: array("q"))  # hashes of lines
    _characters: int = 0
    _trained_on: int = 0
    _said_twice: int = 0

    def hold_out(self, document: Document) -> None:
        """Remember the lines of a held-out document."""
        for line in document.lines:
            key = hash(line)
            if key not in self._held_out and len(self._held_out) >= _MOST_LINES:
                continue
            self._characters += len(line)
            if key in self._held_out:
                self._said_twice += len(line)
            self._held_out[key] = self._held_out.get(key, 0) + len(line)

    def train_on(self, document: Document) -> None:
        """Look up the lines of a training document, or remember them for `shares`."""
        for line in document.lines:
            if self.is_held_out_first:
                self._trained_on += self._held_out.pop(hash(line), 0)
            elif len(self._trained) < _MOST_TRAINED:
                self._trained.append(hash(line))

    def shares(self) -> dict[str, float]:
        """Return the shares of the held-out text that are trained on, and that are repeated."""
        self._trained_on += sum(self._held_out.pop(key, 0) for key in self._trained)
        of = max(self._characters, 1)
        return {TRAINED_ON: self._trained_on / of, SAID_TWICE: self._said_twice / of}


def overlap(shares: Mapping[str, float]) -> str:
    """Return a suffix for the name of a held-out text of which much is trained on; else empty."""
    share = shares[TRAINED_ON]
    return f", {_percent(share)} of it trained on, too" if share >= _MUCH else ""


def notes_on(shares: Mapping[str, float], name: str) -> Iterator[str]:
    """Yield notes for people on a held-out text of this name."""
    if (share := shares[TRAINED_ON]) >= _MUCH:
        yield (
            f"{_percent(share)} of the held-out text of {name} is trained on, too: its losses are "
            "too good, and say little of other text; give another --held-out"
        )
    if (share := shares[SAID_TWICE]) >= _MUCH:
        yield (
            f"{_percent(share)} of the held-out text of {name} is in it more than once: standard "
            "errors and intervals are too small; is a file given twice, or copied?"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
