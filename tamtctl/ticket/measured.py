"""Reading the measurements that a ticket records: losses, their unit, and the held-out text.

A ticket may be from a stranger: what is not a number is left out, and nothing missing is guessed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tamtctl.data.units import UNITS, rows_of
from tamtctl.foundations import printable
from tamtctl.foundations.measured_text import MeasuredText
from tamtctl.foundations.public_names import texts_of
from tamtctl.ticket.format.metadata import TicketMetadata

# Limits of numbers of entries, of values and of texts, far above any measurement.
_MOST, _LARGEST, _LONGEST_TEXT = 100, 1e9, 200
_NAME = re.compile(r"\w[\w .:+/-]{0,63}", re.ASCII)
_UNIT = re.compile(r"[\w(][\w ()+−/%.-]{0,63}")


@dataclass(frozen=True)
class Measured:
    """The measurements of a ticket and of the masks that it was compared with.

    Attributes:
        losses: Mask → loss on held-out text.
        standard_errors: Mask → standard error of its loss, where it is known.
        check_losses: Mask → loss on text of another domain.
        unit: The unit of all losses; None if the ticket does not state it.
        text: The held-out text and its length, in words; None if not stated.
        check_text: The text of another domain, in words; None if not stated.
        scores: Task → metric → value.
        steps: Steps of the training; None if not known.
        flips: Share of the mask that training changed; None if not known.
        changed: Whether training changed the mask; None if not known.
    """

    losses: dict[str, float]
    standard_errors: dict[str, float]
    check_losses: dict[str, float]
    unit: str | None
    text: str | None
    check_text: str | None
    scores: dict[str, dict[str, float]]
    steps: int | None
    flips: float | None
    changed: bool | None

    @classmethod
    def of(cls, ticket: TicketMetadata) -> Measured:
        """Read the measurements of a ticket."""
        metrics, search = ticket.metrics, ticket.search
        unit = metrics.get("unit")
        changed = metrics.get("changed")
        check = _joined(texts_of(search, "check_corpus"))
        losses = _numbers(metrics.get("losses"))
        return cls(
            losses=losses,
            standard_errors=_numbers(metrics.get("standard_errors")),
            check_losses=_numbers(metrics.get("check_losses")),
            unit=unit if isinstance(unit, str) and _UNIT.fullmatch(unit) else None,
            text=_text(metrics, search) if losses else None,
            check_text=check and f"{check} (held out)",
            scores=_scores(metrics.get("scores")),
            steps=_count(metrics.get("steps")),
            flips=_share(metrics.get("flips")),
            changed=changed if isinstance(changed, bool) else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def _text(metrics: Mapping[str, Any], search: Mapping[str, Any]) -> str | None:
    name = _joined(texts_of(search, "held_out"))
    if name is None and (corpus := _joined(texts_of(search, "corpus"))):
        name = f"{corpus} (held out)"
    length = _count(search.get("sequence_length"))
    if name is None or length is None:
        return name
    sequences, there = _count(metrics.get("sequences")), _count(metrics.get("sequences_there"))
    if sequences is None:  # a version that did not record it
        return f"sequences of {length} tokens of {name}"
    rows = rows_of(search)
    told = None if UNITS[rows].is_packed else rows
    return str(MeasuredText(name, sequences, there or sequences, length, told))


def _joined(names: tuple[str, ...]) -> str | None:
    return printable.line(", ".join(names), _LONGEST_TEXT) if names else None


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else None


def _share(value: Any) -> float | None:
    return float(value) if _is_number(value) and 0 <= value <= 1 else None


def _numbers(values: Any) -> dict[str, float]:
    return {name: float(value) for name, value in _named(values) if _is_number(value)}


def _scores(values: Any) -> dict[str, dict[str, float]]:
    return {name: found for name, value in _named(values) if (found := _numbers(value))}


def _named(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the members of an object with plain names, at most the first ones."""
    items = values.items() if isinstance(values, Mapping) else ()
    plain = ((name, value) for name, value in items if _NAME.fullmatch(str(name)))
    return itertools.islice(plain, _MOST)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and abs(value) <= _LARGEST
    )
