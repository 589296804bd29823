"""The shelf of sparsity patterns: which sets of weights a mask may keep.

A pattern goes with every criterion and every training: they rank the weights, and it chooses among
the sets that it allows the one that ranks highest. Imports nothing heavy. To add one: a file beside
this one, and a row in `PATTERNS`; from another package or a script the same by `register`. The file
defines

    keep(shapes, sparsity) -> Mapping[str, int]             how many weights each matrix keeps
    select(scores, keep, among_equals) -> Mapping[str, Tensor]      which ones: boolean masks

Both see all matrices at once, by name: a head is rows of several. ``among_equals`` maps the name of
a matrix to what decides between equal scores, or lacks it: then the earlier weight is kept.
`unstructured` is the shortest example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamtctl.foundations.shelves import Row, Shelf

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pattern(Row):
    """A sparsity pattern, and what others have to know of it.

    Attributes:
        sparsity: The only sparsity that it has; None if it has any.
        is_followed: Whether each matrix keeps its largest scores, whichever they are: then a
            training follows the threshold from step to step, and does not select anew.
        takes_budgets: Whether a matrix may keep any number of its weights: then allocations other
            than the uniform one go with it.
    """

    sparsity: float | None = None
    is_followed: bool = False
    takes_budgets: bool = False

    def has(self, sparsity: float) -> bool:
        """Whether there are masks of this pattern with a sparsity."""
        return self.sparsity in (None, sparsity)

    def keep(self, shapes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, int]:
        """Return name → how many weights a matrix keeps.

        Args:
            shapes: Name → shape of every matrix.
            sparsity: Share of zeros.
        """
        return dict(self.function("keep")(shapes, sparsity))

    def select(
        self,
        scores: Mapping[str, Tensor],
        keep: Mapping[str, int],
        among_equals: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return name → mask of the weights that are kept.

        Args:
            scores: Name → score of every weight; the larger is kept.
            keep: Name → how many weights the matrix keeps.
            among_equals: Name → of equal scores that with the larger value is kept.
        """
        return dict(self.function("select")(scores, keep, among_equals or {}))


PATTERNS: Shelf[Pattern] = Shelf(
    "pattern",
    [
        Pattern(
            name="unstructured",
            code="tamtctl.pruning.patterns.unstructured",
            is_followed=True,
            takes_budgets=True,
        ),
    ],
    names=r"[a-z0-9]+([:-][a-z0-9]+)*",
)
register = PATTERNS.register

# What a mask is of unless another pattern is asked for.
UNSTRUCTURED = "unstructured"
