"""The votes of several tickets on every weight, and which weights they keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tamtctl.foundations.masks import keep_count
from tamtctl.pruning.combining.operations import Operation
from tamtctl.pruning.criteria import CRITERIA, REFERENCE
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.one_shot import keep_counts
from tamtctl.pruning.patterns import Pattern
from tamtctl.ticket.format.metadata import ParameterEntry
from tamtctl.ticket.ticket import Ticket

OPERATION, FIRST, UNIFORM = "operation", "first", "uniform"
SHARINGS = (FIRST, UNIFORM)


@dataclass(frozen=True, eq=False)
class Poll:
    """The result of a vote.

    Attributes:
        masks: Name → boolean mask of the shape of its weight; True keeps.
        shared_out: What decided how many weights each matrix keeps: the ``operation``; or, with a
            sparsity, the shares of the ``first`` ticket, or ``uniform``.
        kept_by_operation: How many weights the operation alone keeps.
        votes: Number of votes → how many of the kept weights have exactly this number.
    """

    masks: Mapping[str, Tensor]
    shared_out: str
    kept_by_operation: int
    votes: Mapping[int, int]

    @classmethod
    def of(
        cls,
        tickets: Sequence[Ticket],
        weights: Mapping[str, Tensor],
        operation: Operation,
        pattern: Pattern,
        sparsity: float | None,
        allocation: str,
    ) -> Self:
        """Count the votes.

        Args:
            tickets: Tickets of the same matrices, with their masks stored as bits.
            weights: Name → pre-trained weight of every matrix.
            operation: How many votes keep a weight; used only without a sparsity.
            pattern: Which weights may be kept together; used only with a sparsity.
            sparsity: Share of zeros; None leaves it to the operation.
            allocation: ``uniform`` gives every matrix the sparsity; ``first`` shares the kept
                weights out over the matrices as the first ticket does.
        """
        votes = _votes(tickets, weights)
        least = operation.least_votes(len(tickets))
        masks = {name: voted >= least for name, voted in votes.items()}
        shared_out, kept_by_operation = OPERATION, _count(masks)
        if sparsity is not None:
            counts, shared_out = _counts(tickets[0], weights, sparsity, allocation, pattern)
            # Among equal votes the reference criterion decides: the magnitude of the pre-trained
            # weight.
            ties = CRITERIA[REFERENCE].scores(Context(weights=weights))
            masks = pattern.select(votes, counts, ties)
        return cls(masks, shared_out, kept_by_operation, _kept(votes, masks))

    @property
    def kept(self) -> int:
        """How many weights are kept."""
        return _count(self.masks)


def counts_as_in(parameters: Mapping[str, ParameterEntry], sparsity: float) -> dict[str, int]:
    """Return name → how many weights a matrix keeps at another sparsity, shared out as in a ticket.

    If fewer weights are kept than in the ticket, each matrix loses the same share of its kept
    weights; if more, the same share of its zeros. All matrices together keep exactly n − ⌊n ·
    sparsity⌋ of n weights.

    Args:
        parameters: The matrices of the ticket.
        sparsity: Share of zeros in all matrices together.
    """
    total = sum(entry.numel for entry in parameters.values())
    kept, wanted = sum(e.kept for e in parameters.values()), keep_count(total, sparsity)
    if wanted <= kept:
        return _shared_out({name: e.kept for name, e in parameters.items()}, wanted)
    zeros = _shared_out({name: e.numel - e.kept for name, e in parameters.items()}, total - wanted)
    return {name: entry.numel - zeros[name] for name, entry in parameters.items()}


def _shared_out(shares: Mapping[str, int], total: int) -> dict[str, int]:
    """Return whole numbers that sum to a total, in proportion to the shares and none above its own.

    What rounding down leaves over goes to the names that lost most by it, the first ones on a tie.
    """
    of_all = max(sum(shares.values()), 1)
    found = {name: share * total // of_all for name, share in shares.items()}
    left_over = total - sum(found.values())
    cut = sorted(shares, key=lambda name: -(shares[name] * total % of_all))
    return found | {name: found[name] + 1 for name in cut[:left_over]}


def _votes(tickets: Sequence[Ticket], names: Iterable[str]) -> dict[str, Tensor]:
    """Return name → how many tickets keep each weight, float32 of the shape of the weight."""
    votes = {}
    for name in names:
        count = torch.zeros(tickets[0].parameters[name].shape)  # (R, C)
        for ticket in tickets:
            count += ticket.mask(name)
        votes[name] = count
    return votes


def _counts(
    first: Ticket,
    weights: Mapping[str, Tensor],
    sparsity: float,
    allocation: str,
    pattern: Pattern,
) -> tuple[dict[str, int], str]:
    """Return name → how many weights a matrix keeps, and what decided it (`Poll.shared_out`)."""
    even = keep_counts(weights, sparsity, pattern.name)
    own = {name: entry.kept for name, entry in first.parameters.items()}
    is_even = own == keep_counts(weights, first.target_sparsity, pattern.name)
    takes_any = pattern.takes_budgets and not pattern.is_structured  # shares are of weights
    if allocation != FIRST or is_even or not takes_any:
        return even, UNIFORM
    return counts_as_in(first.parameters, sparsity), FIRST


def _kept(votes: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[int, int]:
    """Return number of votes → how many kept weights have exactly this number, most votes first."""
    found: dict[int, int] = {}
    for name, mask in masks.items():
        for voted, kept in enumerate(torch.bincount(votes[name][mask].long()).tolist()):
            found[voted] = found.get(voted, 0) + kept
    return {voted: found[voted] for voted in sorted(found, reverse=True) if found[voted]}


def _count(masks: Mapping[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())
