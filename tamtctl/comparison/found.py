"""What a section of the report found, as sentences, a table, a figure and JSON fields.

Sentences are in the report, in its JSON and on the terminal; tables and figures in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table of plain text.

    Attributes:
        heading: One cell for each column.
        rows: As many cells as the heading has, in each row.
        words: How many of the first columns hold words, set to the left; the rest are numbers.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn anew for each kind of page.

    Attributes:
        caption: What stands below it.
        draw: Draws it in the colours that matplotlib is set to.
    """

    caption: str
    draw: Callable[[], Figure]


class Found:
    """What a section found; a section overrides the methods that it has something for."""

    def lead(self) -> Sequence[str]:
        """Return whole sentences for the first paragraph of the report."""
        return ()

    def preface(self) -> Sequence[str]:
        """Return paragraphs that a reader needs before the numbers."""
        return ()

    def sentences(self) -> Sequence[str]:
        """Return the findings, one sentence each."""
        return ()

    def table(self) -> Table | None:
        """Return the numbers; None if there are none."""
        return None

    def picture(self) -> Picture | None:
        """Return the figure; None if there is nothing to draw."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return fields of the comparison's JSON, by names that no other section has."""
        return {}
