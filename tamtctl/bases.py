"""The weights that a ticket's masks belong to, for what cannot be done without them."""

from __future__ import annotations

from torch import Tensor

from tamtctl.models import Encoder, load_encoder
from tamtctl.ticket import Ticket


def load_base(ticket: Ticket, model: str | None = None) -> Encoder:
    """Load the encoder that a ticket was found for.

    Args:
        ticket: Says which: model and revision.
        model: Where else the same checkpoint is; a folder or Hub id.

    Raises:
        ModelError: It cannot be loaded.
    """
    base = ticket.base_model
    if model is None:
        return load_encoder(base.id, with_head=False, revision=base.revision)
    return load_encoder(model, with_head=False)


def recode(ticket: Ticket, encoding: str) -> Ticket:
    """Return a ticket in another encoding, with the base model's weights if that takes them.

    Raises:
        ModelError: They are needed and cannot be loaded.
        TicketError: There is no such encoding, or they are not the weights of the ticket.
    """
    weights: dict[str, Tensor] | None = None
    if encoding != ticket.encoding and "delta" in (encoding, ticket.encoding):
        weights = load_base(ticket).weights
    return ticket.encode(encoding, weights)


def with_masks(ticket: Ticket) -> Ticket:
    """Return a ticket whose masks can be looked at one by one; see `recode`."""
    return recode(ticket, "bits") if ticket.encoding == "delta" else ticket
