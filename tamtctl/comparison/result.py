"""The result of a comparison: the measured subnetworks, and what the sections found."""

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
from tamtctl.foundations.measured_text import extent
from tamtctl.foundations.shown import Shown

Groups = dict[tuple[str, Level], list[Subnetwork]]  # those that differ in their seed alone


@dataclass(frozen=True)
class TextFacts:
    """A text that losses were measured on.

    Attributes:
        name: What tables call it; empty if it is the only one.
        source: The corpus whose held-out part it is.
        sequences: Number of sequences.
        tokens: Tokens of a sequence, at most.
        trained_on: Labels of the tickets that state to be trained on it.
        rows: The unit of a sequence, a name in `tamtctl.data.units.UNITS`.
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
    """The result of a comparison.

    Attributes:
        config: The request.
        model: The model that the masks are of.
        texts: The texts that losses were measured on.
        measures: The losses, for each term and text; see `tamtctl.comparison.measures`.
        subnetworks: The subnetworks, the dense model first.
        beside: The sweep's criteria with the other allocation, which have a table of their own.
        ceilings: The dense model after ordinary training, where a ticket has a lower loss than it.
        left_out: Cell → what is wrong with its run folder, so that it is missing.
        notes: Notes for the reader on this comparison in particular.
        folder: The folder of the report.
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
        """The corpora of the held-out texts, for a sentence."""
        return ", ".join(text.source for text in self.texts)

    @property
    def sentences(self) -> list[str]:
        """The findings of all sections, one sentence each."""
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
