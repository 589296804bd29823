"""The sparsity patterns that a ticket may claim: their names, and what they mean for its bits.

A ticket names its pattern, and whoever reads it sees from the bits whether that is true; what finds
masks of a pattern is in `tamtctl.pruning.patterns`. Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tamtctl.models.structures import Shapes, Structures, blocks, neurons

# What a mask is of unless its ticket says otherwise: any weights.
UNSTRUCTURED = "unstructured"
# What a name looks like, be it known to this version or not.
PATTERN_NAME = r"(?=.{1,40}$)[a-z0-9]+([:-][a-z0-9]+)*"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the names of a pattern look like, and what they promise.

    Attributes:
        name: What help texts call it.
        example: A name of this form.
        grammar: What a name looks like; its groups are numbers.
        noun: What it keeps or prunes, for people.
        structures: Finds what is kept or pruned as a whole, of matrices with these shapes and the
            numbers of the name; None: of every m neighbours in a row of a matrix n are kept.
        is_alike: Whether every group of as many structures keeps as many.
        is_sliced: Whether a checkpoint without the pruned structures is one of transformers, too.
    """

    name: str
    example: str
    grammar: str
    noun: str
    structures: Callable[..., Structures] | None = None
    is_alike: bool = False
    is_sliced: bool = False

    def numbers_in(self, name: str) -> tuple[int, ...] | None:
        """Return the numbers in a name of this form; None if it is of another."""
        found = re.fullmatch(self.grammar, name)
        return None if found is None else tuple(map(int, found.groups()))


N_OF_M = Form(name="n:m", example="2:4", grammar=r"([1-9]\d{0,2}):([1-9]\d{0,2})", noun="weights")
BLOCK = Form(
    name="block:RxC",
    example="block:4x4",
    grammar=r"block:([1-9]\d{0,3})x([1-9]\d{0,3})",
    noun="blocks",
    structures=blocks,
)
NEURONS = Form(
    name="neurons",
    example="neurons",
    grammar="neurons",
    noun="feed-forward neurons",
    structures=neurons,
    is_alike=True,
    is_sliced=True,
)
FORMS = (N_OF_M, BLOCK, NEURONS)


def is_sliced(pattern: str) -> bool:
    """Whether a checkpoint without what masks of a pattern prune is one of transformers, too."""
    claim = Claim.read(pattern)
    return claim is not None and claim.form.is_sliced


@dataclass(frozen=True)
class Claim:
    """The name of a pattern, understood.

    Attributes:
        form: Which form it has.
        numbers: Those in it.
    """

    form: Form
    numbers: tuple[int, ...]

    @classmethod
    def read(cls, pattern: str) -> Claim | None:
        """Return what a name claims; None if this version of the package does not know it."""
        for form in FORMS:
            if (numbers := form.numbers_in(pattern)) is not None:
                return cls(form, numbers)
        return None

    def structures(self, shapes: Shapes) -> Structures | None:
        """Return what is kept or pruned as a whole; None if weights are, one by one.

        Raises:
            ValueError: Matrices of these shapes have no such structures.
        """
        find = self.form.structures
        return None if find is None else find(shapes, *self.numbers)
