"""Checks that tickets can be combined: they need one model, the same matrices and one pattern."""

from __future__ import annotations

from collections.abc import Mapping

from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.foundations.untrusted import show
from tamtctl.pruning.patterns import Pattern, find_pattern
from tamtctl.ticket.ticket import Ticket


def check_alike(tickets: Mapping[str, Ticket]) -> None:
    """Refuse tickets that are not masks of the same matrices with the same weights.

    Args:
        tickets: Name → ticket.

    Raises:
        TicketError: A ticket differs from the first one in its matrices or in their weights.
    """
    (first_name, first), *others = tickets.items()
    for name, ticket in others:
        one, other = first.parameters, ticket.parameters
        for matrix in one.keys() & other.keys():
            if one[matrix].sha256 != other[matrix].sha256:
                raise TicketError(
                    f"{first_name} is a ticket of {first.base_line}, and {name} one of "
                    f"{ticket.base_line} with other weights; combine tickets of one model"
                )
        if lone := sorted(one.keys() ^ other.keys()):
            has, lacks = (first_name, name) if lone[0] in one else (name, first_name)
            raise TicketError(
                f"{has} masks {lone[0]}, and {lacks} does not; combine tickets of the same matrices"
            )


def common_pattern(tickets: Mapping[str, Ticket], sparsity: float | None) -> Pattern:
    """Return the sparsity pattern that all tickets share.

    Args:
        tickets: Name → ticket.
        sparsity: The sparsity that the combined ticket shall have; None if none was asked for.

    Raises:
        TicketError: The tickets have different patterns, or one that this version does not know.
        UsageError: The pattern has no masks of this sparsity.
    """
    (first_name, pattern), *others = ((name, ticket.pattern) for name, ticket in tickets.items())
    for name, other in others:
        if other != pattern:
            raise TicketError(
                f"{first_name} is of the pattern {show(pattern)}, and {name} of {show(other)}; "
                "combine tickets of one pattern"
            )
    try:
        row = find_pattern(pattern)
    except UsageError as error:
        raise TicketError(
            f"{first_name} is of the pattern {show(pattern)}, which is unknown here"
        ) from error
    if sparsity is not None and not row.has(sparsity):
        raise UsageError(
            f"these tickets have the pattern {row.name}, which does not allow --sparsity "
            f"{sparsity:g}; give --sparsity {row.sparsity:g}, or leave it out"
        )
    return row
