"""The record in a ticket of what it was made of: other tickets, or kept scores.

The record is in ``search``, where other tickets have their search. It may be from a stranger: what
`combine` could not have written is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tamtctl.foundations.public_names import public
from tamtctl.ticket.format.metadata import TicketMetadata

COMBINED = "combined"  # the method of a combined ticket
TICKETS = "tickets"  # the field of ``search`` with the record
KEPT_SCORES = "the scores of a mask training at another sparsity"  # for people
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_of_kept_scores(ticket: TicketMetadata) -> bool:
    """Whether a search derived the ticket from kept scores, without a training of its own."""
    return isinstance(ticket.search.get("from_scores"), str)


@dataclass(frozen=True)
class Part:
    """One of the tickets that a ticket was made of.

    Attributes:
        name: Its name, without private parts of a path.
        masks_sha256: Hex SHA-256 of its masks with one bit per weight; see
            `tamtctl.ticket.stored.StoredTicket.masks_digest`.
        method: The method that found its masks.
        seed: The seed of its search; None if it had none.
        sparsity: Its share of zeros.
    """

    name: str
    masks_sha256: str
    method: str
    seed: int | None
    sparsity: float

    @classmethod
    def of(cls, name: str, ticket: TicketMetadata, masks_digest: bytes) -> Self:
        """Describe a ticket.

        Args:
            name: The name that the user gave; of a path, only the last part is recorded.
            ticket: The ticket.
            masks_digest: The digest of its masks with one bit per weight.
        """
        seed = ticket.search.get("seed")
        return cls(
            public(name),
            masks_digest.hex(),
            ticket.method,
            seed if type(seed) is int else None,
            ticket.sparsity,
        )

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """Return the ticket in an entry of a record; None if the entry is not valid."""
        if not isinstance(value, Mapping):
            return None
        name, digest, method = (value.get(key) for key in ("name", "masks_sha256", "method"))
        seed, sparsity = value.get("seed"), value.get("sparsity")
        if not (isinstance(name, str) and isinstance(method, str) and isinstance(digest, str)):
            return None
        if not _SHA256.fullmatch(digest) or not isinstance(sparsity, int | float):
            return None
        return cls(name, digest, method, seed if type(seed) is int else None, float(sparsity))


@dataclass(frozen=True)
class MadeOf:
    """How a ticket was made of others.

    Attributes:
        operation: The operation on their votes, such as ``majority``.
        sparsity: The sparsity that was asked for; None if the operation alone decided.
        parts: The tickets, in their order.
    """

    operation: str
    sparsity: float | None
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, ticket: TicketMetadata) -> Self | None:
        """Return how a ticket was made of others; None if it was not, or does not record it."""
        operation, listed = ticket.search.get("operation"), ticket.search.get(TICKETS)
        if ticket.method != COMBINED or not isinstance(operation, str):
            return None
        parts = [Part.read(one) for one in listed] if isinstance(listed, list | tuple) else []
        known = tuple(part for part in parts if part)
        if not known or len(known) < len(parts):
            return None
        sparsity = ticket.search.get("sparsity")
        return cls(operation, sparsity if isinstance(sparsity, float) else None, known)
