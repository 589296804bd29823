"""The shelf of sections of a comparison's report, in the order of the report.

Imports nothing heavy. To add a section, add a file beside this one and a row to `SECTIONS`; another
package or a script calls `register`. The report in all its forms, the terminal and ``--json`` then
have it. The file defines

    find(comparison: Comparison, opened: Opened) -> Found | None

which is called once everything is measured. It returns a subclass of
`tamtctl.comparison.found.Found`, whose methods give sentences, a table, a figure and JSON fields,
or None if there is nothing to say. `same_mask` is the shortest example.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Row, Shelf

if TYPE_CHECKING:
    from tamtctl.comparison.found import Found

Place = Literal["first", "middle", "last"]


@dataclass(frozen=True, kw_only=True)
class Section(Row):
    """A section of the report.

    Attributes:
        title: The headline of its table.
        place: Where its table is: ``first``, before all sentences, without a headline, and also on
            the terminal; ``middle``, after the figures; or ``last``, for a long one.
        figure: The name of its figure's files; by default its own name.
    """

    title: str
    place: Place = "middle"
    figure: str = ""

    @property
    def file(self) -> str:
        """The name of its figure's files, without the ending."""
        return self.figure or self.name


class Sections(Shelf[Section]):
    """The shelf of sections, no two of which write the same figure file."""

    def register(self, row: Section) -> Section:
        """Put one more section on the shelf, for as long as the process lives.

        Raises:
            UsageError: The name of the section or of its figure is taken or invalid, or its place
                is none of the three.
        """
        if row.place not in get_args(Place):
            raise UsageError(
                f"the table of section {row.name!r} stands first, middle or last, not {row.place!r}"
            )
        if not re.fullmatch(r"[a-z0-9-]*", row.figure):
            raise UsageError(
                f"a figure cannot be called {row.figure!r}: it is the name of a file, of lower "
                "case letters, digits and hyphens"
            )
        for name, other in self.items():
            if row.file == other.file and row.name != name:
                raise UsageError(
                    f"section {row.name!r} has a figure {row.file!r}, as {name!r} has; give its "
                    "figure another name"
                )
        return super().register(row)


def _section(name: str, title: str, place: Place = "middle", figure: str = "") -> Section:
    code = f"{__package__}.{name.replace('-', '_')}"
    return Section(name=name, code=code, title=title, place=place, figure=figure)


SECTIONS = Sections(
    "section of the report",
    [
        _section("loss-by-sparsity", "Losses at each sparsity", place="first", figure="loss"),
        _section("differences", "Every difference", place="last"),
        _section("ceiling", "Tickets below the dense model"),
        _section("recovered-weights", "Weights that were recovered"),
        _section("same-mask", "Masks that are one and the same"),
        _section("sparsity-by-layer", "Where the zeros are", figure="sparsity"),
        _section("flips-by-layer", "Where masks differ from the magnitude mask", figure="flips"),
        _section("loss-by-seconds", "Is training worth its seconds?", figure="seconds"),
        _section("better-allocations", "One-shot criteria at the better of two allocations"),
        _section("loss-by-step", "Losses along the searches", figure="steps"),
        _section("similarity", "How alike the masks are"),
        _section("correlations", "Does the loss foretell the score?", figure="score"),
        _section("metric-notes", "What the scores of tasks stand beside"),
        _section("derived-tickets", "One search for many sparsities: its cost against their own"),
        _section("provenance", "How this was made", place="last"),
    ],
)
register = SECTIONS.register


def in_order(found: Mapping[str, Found]) -> list[tuple[Section, Found]]:
    """Return pairs of a section and what it found, in the order of the shelf."""
    return [(section, found[name]) for name, section in SECTIONS.items() if name in found]
