"""What a section of the report has found, and how it says so.

Sentences stand in the report, in its JSON and on the terminal; tables and figures in the report.
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
        heading: One cell a column.
        rows: As many cells in each.
        words: How many of the first columns hold words, set to the left; the others hold numbers.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn when it is needed, once for each kind of page.

    Attributes:
        caption: What stands below it.
        draw: Draws it with matplotlib, in the colours that matplotlib is set to.
    """

    caption: str
    draw: Callable[[], Figure]


class Found:
    """What a section found; it overrides what it has to say and leaves out the rest."""

    def lead(self) -> Sequence[str]:
        """Return whole sentences for the first paragraph of the report, which many read alone."""
        return ()

    def preface(self) -> Sequence[str]:
        """Return paragraphs that a reader needs before the numbers."""
        return ()

    def sentences(self) -> Sequence[str]:
        """Return what there is to say, one finding a sentence."""
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
