"""Families of patterns, which differ in the numbers of their names, such as ``2:4`` and ``4:8``.

The row of a member is made when its name is looked up, and its functions get the numbers as further
arguments. The number of a family may be the model's, as is that of attention heads: its name alone
then means the member with the model's number, see `tamtctl.pruning.patterns.of_model`. Imports
nothing heavy. To add a family: a `Form` in `tamtctl.ticket.format.patterns`, a file of functions
beside this one, and a row in `_FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.patterns.table import PATTERNS, UNSTRUCTURED, Pattern
from tamtctl.ticket.format.patterns import ATTENTION_HEADS, BLOCK, N_OF_M, Form


def _n_of_m(row: Pattern, kept: int, size: int) -> Pattern:
    """Return the row of n:m with its sparsity.

    Raises:
        UsageError: n is not below m, so that nothing is pruned.
    """
    if kept >= size:
        raise UsageError(f"--pattern {row.name} prunes nothing; give n:m with n below m, as in 2:4")
    return replace(row, sparsity=1 - kept / size)


def _block(row: Pattern, rows: int, columns: int) -> Pattern:
    """Return the row of blocks.

    Raises:
        UsageError: A block is a single weight.
    """
    if rows * columns == 1:
        raise UsageError(f"--pattern {row.name} is {UNSTRUCTURED}; give that")
    return row


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Patterns that differ in the numbers of their names.

    Attributes:
        form: The form of the members' names.
        row: What the rows of all members have in common.
        usual: Names of the members that are used most.
        settled: Takes ``row`` with a member's name, and its numbers; returns the row of the member.
    """

    form: Form
    usual: tuple[str, ...]
    row: Pattern
    settled: Callable[..., Pattern] = lambda row, *_: row

    def find(self, name: str) -> Pattern | None:
        """Return the row of a member; None if the name is not of this family's form."""
        if self.row.of_model and name == self.form.name:  # whatever the number
            return self.row
        numbers = self.form.numbers_in(name)
        if numbers is None:
            return None
        return self.settled(replace(self.row, name=name, numbers=numbers), *numbers)


_FAMILIES = (
    _Family(
        form=N_OF_M,
        usual=("2:4", "4:8", "1:4"),
        row=Pattern(
            name=N_OF_M.name,
            code="tamtctl.pruning.patterns.n_of_m",
            takes_cuts=True,
            is_of_words=False,
        ),
        settled=_n_of_m,
    ),
    _Family(
        form=BLOCK,
        usual=("block:4x4", "block:8x8", "block:16x16", "block:1x16"),
        row=Pattern(
            name=BLOCK.name,
            code="tamtctl.pruning.patterns.block",
            takes_cuts=True,
            is_of_words=False,
            is_structured=True,
        ),
        settled=_block,
    ),
    _Family(
        form=ATTENTION_HEADS,
        usual=(ATTENTION_HEADS.name,),
        row=Pattern(
            name=ATTENTION_HEADS.name,
            code="tamtctl.pruning.patterns.heads",
            takes_budgets=True,
            takes_cuts=True,
            is_of_words=False,
            is_structured=True,
            of_model="num_attention_heads",
        ),
    ),
)


def pattern_names() -> tuple[str, ...]:
    """Return every pattern and family, as help texts name them."""
    return _with([family.form.name for family in _FAMILIES])


def usual_patterns() -> tuple[str, ...]:
    """Return the names of every pattern, and of the usual members of each family."""
    return _with([name for family in _FAMILIES for name in family.usual])


def _with(families: Sequence[str]) -> tuple[str, ...]:
    others = (name for name in PATTERNS if name != UNSTRUCTURED)
    return (UNSTRUCTURED, *families, *others)


def find_pattern(name: str) -> Pattern:
    """Return the row of a pattern, or that of a member of a family, such as ``2:4``.

    Raises:
        UsageError: There is no such pattern.
    """
    if name in PATTERNS:
        return PATTERNS[name]
    for family in _FAMILIES:
        if row := family.find(name):
            return row
        if name == family.form.name:
            raise UsageError(f"--pattern {name} has numbers, as in {family.form.example}")
    one_of("pattern", name, pattern_names())
    raise AssertionError(name)  # unreachable: known names are found above


def check_pattern(_: str, name: str) -> None:
    """Raise UsageError unless there is a pattern of this name."""
    find_pattern(name)
