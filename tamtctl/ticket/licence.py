"""The licence of a ticket's base model, and notes for those who publish a ticket."""

from __future__ import annotations

from tamtctl.foundations.errors import HubError, TamtctlError
from tamtctl.models.licences import known_licence, licence_of
from tamtctl.ticket.hub.card import licence_in
from tamtctl.ticket.hub.client import HubRepo
from tamtctl.ticket.hub.names import is_on_hub
from tamtctl.ticket.stored import StoredTicket


def base_licence(ticket: StoredTicket) -> str | None:
    """Return the licence of a ticket's base model from files on this machine; None if unknown."""
    try:
        name, revision = ticket.find_base()
    except TamtctlError:
        return None
    return licence_of(name, revision)


def asked_licence(ticket: StoredTicket, token: str | None, endpoint: str | None) -> str | None:
    """Return the licence that the Hub states for a ticket's base model; None if it states none."""
    base = ticket.base_model
    if not is_on_hub(ticket):
        return None
    try:
        card = HubRepo(base.id, base.revision, token, endpoint).info().card_data
    except HubError:
        return None
    return known_licence(getattr(card, "license", None))


def doubts(ticket: StoredTicket, licence: str | None, card: str) -> list[str]:
    """Return notes for the publisher of a ticket whose base model's licence is not known.

    Args:
        ticket: The ticket.
        licence: The licence of its base model; None if it is not known.
        card: The text of its card, which may name a licence.
    """
    if licence is not None:
        return []
    own = licence_in(card)
    then = f"see that {own} goes with it" if own else "look it up, and give one with --license"
    return [
        f"the licence of {ticket.base_model.id}, which the ticket is a part of, is not known "
        f"here: {then}"
    ]
