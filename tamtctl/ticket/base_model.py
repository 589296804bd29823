"""The model that a ticket is for: loading it, and encoding masks with its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from tamtctl.foundations.masks import pack
from tamtctl.ticket.base_weights import BaseWeights, UnknownWeightsError
from tamtctl.ticket.stored import StoredTicket

if TYPE_CHECKING:
    from torch import Tensor

    from tamtctl.models.encoder import Encoder

_Ticket = TypeVar("_Ticket", bound=StoredTicket)


def load_base(ticket: StoredTicket, model: str | None = None) -> Encoder:
    """Load the encoder that a ticket was found for, without a masked-LM head.

    Args:
        ticket: Names the model and its revision.
        model: Folder or Hub id that the same checkpoint is loaded from instead.

    Raises:
        ModelError: It cannot be loaded.
    """
    from tamtctl.models.loading import load_encoder

    name, revision = ticket.find_base(model)
    return load_encoder(name, with_head=False, revision=revision)


def recode(ticket: _Ticket, encoding: str, model: str | None = None) -> _Ticket:
    """Return a ticket in another encoding, with the base model's weights if that takes them.

    Args:
        ticket: The ticket.
        encoding: ``bits``, ``zstd`` or ``delta``.
        model: Where its base model is, if not where the ticket says.

    Raises:
        ModelError: They are needed and cannot be loaded.
        TicketError: There is no such encoding, or they are not the weights of the ticket.
    """
    weights: dict[str, Tensor] | None = None
    if encoding != ticket.encoding and "delta" in (encoding, ticket.encoding):
        weights = load_base(ticket, model).weights
    return ticket.encode(encoding, weights)


def with_masks(ticket: _Ticket) -> _Ticket:
    """Return a ticket whose masks can be looked at one by one; see `recode`.

    Torch is used only where the base model's weights are not at hand as safetensors.
    """
    if ticket.encoding != "delta":
        return ticket
    try:
        base = BaseWeights(ticket)
        bits = {
            name: pack(ticket.decoded(name, base.read(name, entry)))
            for name, entry in ticket.parameters.items()
        }
    except UnknownWeightsError:
        return recode(ticket, "bits")
    return replace(ticket, encoding="bits", stored=bits)
