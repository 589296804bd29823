"""What a comparison found: the subnetworks as they were measured, and what the sections say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.found import Found
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import unit
from tamtctl.comparison.subnetworks import Ceiling, Subnetwork
from tamtctl.data.units import BLOCKS, UNITS
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.loss_units import extent
from tamtctl.foundations.shown import Shown

Groups = dict[tuple[str, Level], list[Subnetwork]]  # the subnetworks that differ in their seed


@dataclass(frozen=True)
class TextFacts:
    """A text that losses were measured on.

    Attributes:
        name: What tables call it; empty if it is the only one.
        source: The held-out part of what.
        sequences: How many were measured on.
        tokens: In each, at most.
        trained_on: Labels of the tickets that were trained on it, by their own account.
        rows: What each is, a name in `tamtctl.data.units.UNITS`.
    """

    name: str
    source: str
    sequences: int
    tokens: int
    trained_on: tuple[str, ...] = ()
    rows: str = BLOCKS

    def __str__(self) -> str:
        rows = None if UNITS[self.rows].is_packed else self.rows
        sequences = f"{self.sequences:,} {extent(self.sequences, self.tokens, rows)}"
        whose = f", the text of {' and '.join(self.trained_on)}" if self.trained_on else ""
        return f"{sequences} of {self.source}{whose}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """What a comparison found.

    Attributes:
        config: The request.
        model: The model that the masks are of.
        texts: What the losses were measured on.
        measures: The losses, a term each; of several texts, on each.
        subnetworks: The dense model first.
        beside: The sweep's criteria with the budgets that it has not, in no table but their own.
        ceilings: The dense model after ordinary training, where a ticket is below it.
        left_out: Cell → why it is missing: its run folder is damaged.
        notes: What a reader has to know of this comparison in particular.
        folder: Where the report is.
        found: Section of the report → what it found; see `tamtctl.comparison.sections.table`.

    Example:
        >>> comparison = tamtctl.compare(sweep)
        >>> comparison.subnetworks[0].method, comparison.left_out
        ('dense', {})
    """

    config: CompareConfig
    model: str
    texts: list[TextFacts]
    measures: tuple[str, ...]
    subnetworks: list[Subnetwork]
    left_out: dict[str, str]
    notes: list[str]
    folder: Path
    beside: Sequence[Subnetwork] = ()
    ceilings: Sequence[Ceiling] = ()
    found: Mapping[str, Found] = field(default_factory=dict)

    @property
    def groups(self) -> Groups:
        """Method and level → the subnetworks that differ in their seed alone."""
        groups: Groups = {}
        for one in self.subnetworks:
            groups.setdefault((one.method, one.level), []).append(one)
        return groups

    @property
    def corpus(self) -> str:
        """What the held-out text is of."""
        return ", ".join(text.source for text in self.texts)

    @property
    def sentences(self) -> list[str]:
        """What there is to say, one finding a line."""
        return [sentence for found in self.found.values() for sentence in found.sentences()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values.

        Raises:
            UsageError: A section gives a field that the comparison or another section has.
        """
        values: dict[str, Any] = {
            "config": self.config.to_dict(),
            "model": self.model,
            "corpus": self.corpus,
            "blocks": min(text.sequences for text in self.texts),
            "texts": [asdict(text) for text in self.texts],
            "units": {measure: unit(measure) for measure in self.measures},
            "results": [one.row() for one in self.subnetworks],
            "sentences": self.sentences,
            "left_out": self.left_out,
            "notes": self.notes,
            "folder": str(self.folder),
        }
        for name, found in self.found.items():
            fields = found.to_dict()
            if taken := sorted(values.keys() & fields.keys()):
                raise UsageError(
                    f"section {name!r} gives the JSON field {taken[0]!r}, which is there already; "
                    "give it another name"
                )
            values |= fields
        return values
