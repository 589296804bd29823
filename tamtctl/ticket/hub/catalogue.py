"""Listing the tickets that are published on the Hub."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tamtctl.foundations.untrusted import first_line
from tamtctl.ticket.hub.client import HubRepo


@dataclass(frozen=True)
class PublishedTicket:
    """A ticket in a listing of the Hub.

    Attributes:
        repo: Its Hub id.
        base_model: Hub id of its base model; ``-`` if the Hub does not state it.
        downloads: Downloads in the last 30 days.
        likes: Number of users of the Hub who like it.
        updated: The day of its last commit, ``2026-01-31``; empty if the Hub does not state it.
    """

    repo: str
    base_model: str
    downloads: int
    likes: int
    updated: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def published_tickets(
    *, limit: int = 100, token: str | None = None, endpoint: str | None = None
) -> list[PublishedTicket]:
    """Return the tickets that are published on the Hub, found by their tag, the newest first.

    Args:
        limit: The largest number of tickets.
        token: For private tickets; by default the one of ``hf auth login`` or ``HF_TOKEN``.
        endpoint: URL of another Hub; by default ``HF_ENDPOINT``.

    Raises:
        HubError: The Hub cannot be reached.

    Example:
        >>> [one.repo for one in tamtctl.published_tickets(limit=5)]  # doctest: +SKIP
    """
    hub = HubRepo("", None, token, endpoint)
    return [
        PublishedTicket(
            repo=first_line(model.id),
            base_model=first_line(
                next((t[11:] for t in model.tags or [] if t.startswith("base_model:")), "-")
            ),
            downloads=model.downloads or 0,
            likes=model.likes or 0,
            updated=str(model.last_modified or "")[:10],
        )
        for model in hub.search(limit)
    ]
