"""The shelf of sparsity patterns: which sets of weights a mask may keep.

A pattern goes with every criterion and every training: these rank the weights, and the pattern
chooses the highest-ranking set of weights that it allows. Imports nothing heavy. To add one: a file
beside this one, and a row in `PATTERNS`; from another package or a script the same by `register`.
The file defines

    keep(shapes, sparsity) -> Mapping[str, int]             how many weights each matrix keeps
    select(scores, keep, among_equals) -> Mapping[str, Tensor]      which ones: boolean masks

Both see all matrices at once, by name: a neuron is rows of one and columns of another. A matrix
that ``keep`` leaves out stays dense; ``keep`` raises ValueError if the shapes do not allow the
pattern. ``among_equals`` maps the name of a matrix to values that decide between equal scores; for
a name that it lacks, the earlier weight is kept. Example: `unstructured`. A structured pattern,
which keeps or prunes several weights at a time, learns one score per structure; its file defines,
instead of these two,

    structures(shapes) -> Structures                        see `tamtctl.models.structures`

and raises ValueError there. Example: `neurons`.

Patterns with numbers in their names, such as ``2:4``, are in `tamtctl.pruning.patterns.families`;
what a ticket's reader checks of them is in `tamtctl.ticket.format.patterns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Row, Shelf
from tamtctl.models.structures import Shapes, Structures
from tamtctl.ticket.format.patterns import NEURONS, PATTERN_NAME
from tamtctl.ticket.format.patterns import UNSTRUCTURED as UNSTRUCTURED

if TYPE_CHECKING:
    from torch import Tensor

_NEAR = 1e-6  # sparsities this close are equal, since 2/3 has to be typed as a decimal


@dataclass(frozen=True, kw_only=True)
class Pattern(Row):
    """A sparsity pattern, and facts about it for other code.

    Attributes:
        sparsity: The only sparsity that its masks can have; None if they can have any.
        is_followed: Whether each matrix simply keeps its largest scores. A training then follows
            their threshold from step to step, instead of selecting anew at each step.
        takes_budgets: Whether a matrix may keep any number of its weights, or a group any number of
            its structures but none, as allocations other than ``uniform`` require.
        takes_cuts: Whether iterative pruning can reach it, through masks that keep more weights.
        is_of_words: Whether word embeddings, which are looked up and not multiplied, are masked,
            too.
        is_structured: Whether several weights are kept or pruned at a time. Then each structure has
            one score, and the sparsity is the share of structures that are pruned.
        numbers: The numbers in the name of a family's member, passed on to its functions.
        of_model: What configurations of transformers call the number, if that is the model's.
    """

    sparsity: float | None = None
    is_followed: bool = False
    takes_budgets: bool = False
    takes_cuts: bool = False
    is_of_words: bool = True
    is_structured: bool = False
    numbers: tuple[int, ...] = ()
    of_model: str | None = None

    def has(self, sparsity: float) -> bool:
        """Whether masks of this pattern can have a sparsity."""
        return self.sparsity is None or abs(self.sparsity - sparsity) < _NEAR

    def keep(self, shapes: Shapes, sparsity: float) -> dict[str, int]:
        """Return name → how many weights a matrix keeps, for those that the pattern applies to.

        Args:
            shapes: Name → shape of every matrix.
            sparsity: Share of zeros.

        Raises:
            UsageError: The matrices cannot be of this pattern.
        """
        if self.is_structured:
            from tamtctl.pruning.patterns import structured  # loads torch

            return structured.keep(self.structures(shapes), sparsity)
        counts = dict(self._asked("keep", shapes, sparsity, gives=Mapping))
        for name, count in counts.items():
            if not isinstance(count, int):
                raise UsageError(
                    f"pattern {self.name!r} keeps {count!r} weights of {name}; give a whole number"
                )
        return counts

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
            among_equals: Name → value of every weight; of equal scores the larger value is kept.
        """
        among_equals = among_equals or {}
        if self.is_structured:
            from tamtctl.pruning.patterns import structured  # loads torch

            structures = self.structures({name: tuple(scores[name].shape) for name in keep})
            return structured.select(structures, scores, keep, among_equals)
        if self.is_foreign:  # it may write to what it is given
            scores = {name: values.clone() for name, values in scores.items()}
            among_equals = {name: values.clone() for name, values in among_equals.items()}
        masks = dict(
            self.function("select", gives=Mapping)(scores, keep, among_equals, *self.numbers)
        )
        if self.is_foreign:
            self._check(masks, scores, keep)
        return masks

    def _check(
        self, masks: Mapping[str, Tensor], scores: Mapping[str, Tensor], keep: Mapping[str, int]
    ) -> None:
        """Raise UsageError unless each matrix has a mask that keeps as many weights as asked."""
        for name, score in scores.items():
            mask, wanted = masks.get(name), _described(list(score.shape), "torch.bool", keep[name])
            found = "none"
            if mask is not None:
                found = _described(list(mask.shape), str(mask.dtype), int(mask.sum()))
            if found != wanted:
                raise UsageError(
                    f"pattern {self.name!r} gives {name} {found} for a mask; it needs {wanted}"
                )

    def structures(self, shapes: Shapes) -> Structures:
        """Return what is kept or pruned as a whole; only for a structured pattern.

        Raises:
            UsageError: The matrices cannot be of this pattern.
        """
        found: Structures = self._asked("structures", shapes, gives=Mapping)
        return found

    def _asked(self, function: str, *values: Any, gives: type) -> Any:
        asked = self.function(function, gives=gives, passes=(ValueError,))
        try:
            return asked(*values, *self.numbers)
        except ValueError as error:
            raise UsageError(f"--pattern {self.name} is not for this model: {error}") from error


def _described(shape: list[int], dtype: str, kept: int) -> str:
    return f"{dtype} of {shape} with {kept:,} kept"


PATTERNS: Shelf[Pattern] = Shelf(
    "pattern",
    [
        Pattern(
            name=UNSTRUCTURED,
            code="tamtctl.pruning.patterns.unstructured",
            is_followed=True,
            takes_budgets=True,
            takes_cuts=True,
        ),
        Pattern(
            name=NEURONS.name,
            code="tamtctl.pruning.patterns.neurons",
            takes_cuts=True,
            is_of_words=False,
            is_structured=True,
        ),
    ],
    names=PATTERN_NAME,
)
register = PATTERNS.register
