"""The sparsity patterns that a ticket may name, and what they mean for the bits of its masks.

Readers of a ticket check its bits against the pattern that it names. `tamtctl.pruning.patterns` has
the code that finds masks of a pattern. Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tamtctl.models.attentions import heads
from tamtctl.models.structures import Shapes, Structures, blocks, neurons

# The pattern of a ticket that names none: any weights may be kept.
UNSTRUCTURED = "unstructured"
# Syntax of a name, also of patterns that this version does not know.
PATTERN_NAME = r"(?=.{1,40}$)[a-z0-9]+([:-][a-z0-9]+)*"


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of pattern names, such as n:m, and what masks of these patterns have in common.

    Attributes:
        name: Its name in help texts.
        example: A pattern of this form.
        grammar: Regular expression of the names; its groups are the numbers in a name.
        noun: What is kept or pruned, in the plural, for messages.
        structures: Returns the structures that are kept or pruned as a whole, from the shapes of
            the matrices and the numbers in the name. None: n of every m neighbours in a row of a
            matrix are kept.
        is_alike: Whether groups with the same number of structures keep the same number of them.
        keeps_one: Whether every group keeps at least one structure, without which a model of fewer
            structures could not run.
        is_sliced: Whether transformers can load a checkpoint from which the pruned structures are
            cut out.
        is_cut_from_graphs: Whether they are cut out of an ONNX graph, and of nothing else.
    """

    name: str
    example: str
    grammar: str
    noun: str
    structures: Callable[..., Structures] | None = None
    is_alike: bool = False
    keeps_one: bool = False
    is_sliced: bool = False
    is_cut_from_graphs: bool = False

    def numbers_in(self, name: str) -> tuple[int, ...] | None:
        """Return the numbers in a name of this form; None for a name of another form."""
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
ATTENTION_HEADS = Form(
    name="heads",
    example="heads:12",
    grammar=r"heads:([1-9]\d{0,3})",
    noun="attention heads",
    structures=heads,
    keeps_one=True,
    is_cut_from_graphs=True,
)
FORMS = (N_OF_M, BLOCK, NEURONS, ATTENTION_HEADS)


def is_sliced(pattern: str) -> bool:
    """Return whether pruned structures of a pattern are cut out of an exported checkpoint."""
    form = _form_of(pattern)
    return form is not None and form.is_sliced


def is_cut_from_graphs(pattern: str) -> bool:
    """Return whether pruned structures are cut out of ONNX graphs alone."""
    form = _form_of(pattern)
    return form is not None and form.is_cut_from_graphs


def is_for_sparse_kernels(pattern: str) -> bool:
    """Return whether sparse tensor cores skip the zeros: of 4 neighbours at least 2, as in 2:4."""
    numbers = N_OF_M.numbers_in(pattern)
    return numbers is not None and numbers[1] == 4 and numbers[0] <= 2


def short_noun(pattern: str) -> str:
    """Return what a pattern keeps, in a word: the name of its form."""
    form = _form_of(pattern)
    return pattern if form is None else form.name


def _form_of(pattern: str) -> Form | None:
    """Return the form of a pattern's name, which may lack its numbers; None if it is unknown."""
    named = (one for one in FORMS if pattern == one.name or one.numbers_in(pattern) is not None)
    return next(named, None)


@dataclass(frozen=True)
class Claim:
    """The parsed name of a pattern.

    Attributes:
        form: The form of the name.
        numbers: The numbers in the name.
    """

    form: Form
    numbers: tuple[int, ...]

    @classmethod
    def read(cls, pattern: str) -> Claim | None:
        """Parse the name of a pattern; None if this version does not know it."""
        for form in FORMS:
            if (numbers := form.numbers_in(pattern)) is not None:
                return cls(form, numbers)
        return None

    def structures(self, shapes: Shapes) -> Structures | None:
        """Return what is kept or pruned as a whole; None if that is single weights.

        Raises:
            ValueError: Matrices of these shapes have no such structures.
        """
        find = self.form.structures
        return None if find is None else find(shapes, *self.numbers)
