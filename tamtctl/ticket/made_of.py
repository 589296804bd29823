"""What a ticket says of the tickets that it was made of.

The record stands in ``search``, where other tickets have their search. It may be a stranger's: what
is not as `combine` writes it counts as not said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tamtctl.foundations.public_names import public
from tamtctl.ticket.format.metadata import TicketMetadata

COMBINED = "combined"  # the method of such a ticket
TICKETS = "tickets"  # the field of ``search`` that lists what it was made of
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """One of the tickets that a ticket was made of.

    Attributes:
        name: What everybody may call it.
        masks_sha256: Hex SHA-256 of its masks with one bit per weight; see
            `tamtctl.ticket.stored.StoredTicket.masks_digest`.
        method: How its masks were found.
        seed: The seed of its search, if it had one.
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
            name: As it was asked for; of a path, no more than its last part is told.
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
        """Return the ticket that one entry of a record tells of; None if it tells of none."""
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
        operation: What was made of their votes.
        sparsity: The sparsity that was asked for; None if the operation alone decided.
        parts: The tickets, in their order.
    """

    operation: str
    sparsity: float | None
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, ticket: TicketMetadata) -> Self | None:
        """Return how a ticket was made; None if it was not made of tickets, or does not say."""
        operation, listed = ticket.search.get("operation"), ticket.search.get(TICKETS)
        if ticket.method != COMBINED or not isinstance(operation, str):
            return None
        parts = [Part.read(one) for one in listed] if isinstance(listed, list | tuple) else []
        known = tuple(part for part in parts if part)
        if not known or len(known) < len(parts):
            return None
        sparsity = ticket.search.get("sparsity")
        return cls(operation, sparsity if isinstance(sparsity, float) else None, known)
