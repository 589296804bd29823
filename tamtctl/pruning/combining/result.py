"""The result of combining tickets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.shown import Shown


@dataclass(frozen=True, repr=False)
class CombineResult(Shown):
    """A ticket that was made of tickets, by their votes.

    Attributes:
        ticket: Its folder.
        operation: ``union``, ``intersection`` or ``majority``.
        tickets: The tickets that were combined, as the caller named them.
        model: Their base model.
        sparsity: Share of zeros in all masked matrices.
        target_sparsity: The sparsity that was asked for; None if the operation alone decided.
        shared_out: What decided how many weights each matrix keeps: ``operation``, ``uniform``, or
            ``first`` for the proportions of the first ticket.
        matrices: How many are masked.
        weights: How many weights they have.
        kept: How many of them are kept.
        kept_by_operation: How many weights the operation alone would keep.
        votes: Number of votes → how many of the kept weights have exactly this number.
        empty: The matrices that keep no weight.
        head: Whether it has the first ticket's masked-LM head.
        notes: Lines that a person should read.
        bytes: Size of the ticket's files.
    """

    ticket: Path
    operation: str
    tickets: tuple[str, ...]
    model: str
    sparsity: float
    target_sparsity: float | None
    shared_out: str
    matrices: int
    weights: int
    kept: int
    kept_by_operation: int
    votes: Mapping[int, int]
    empty: tuple[str, ...]
    head: bool
    notes: tuple[str, ...]
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        lists = {name: list(v) for name, v in vars(self).items() if isinstance(v, tuple)}
        votes = {str(voted): kept for voted, kept in self.votes.items()}
        return asdict(self) | lists | {"ticket": str(self.ticket), "votes": votes}
