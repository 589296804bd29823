"""Loading the base model of a ticket, and encoding masks with its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from tamtctl.foundations.masks import pack
from tamtctl.ticket.base_weights import BaseWeights, UnknownWeightsError
from tamtctl.ticket.stored import StoredTicket

if TYPE_CHECKING:
    from tamtctl.models.encoder import Encoder

_Ticket = TypeVar("_Ticket", bound=StoredTicket)


def load_base(ticket: StoredTicket, model: str | None = None) -> Encoder:
    """Load the encoder that a ticket was found for, without a masked-LM head.

    Args:
        ticket: Names the model and its revision.
        model: Folder or Hub id to load the same checkpoint from instead.

    Raises:
        ModelError: The model cannot be loaded.
    """
    from tamtctl.models.loading import load_encoder

    name, revision = ticket.find_base(model)
    return load_encoder(name, with_head=False, revision=revision)


def recode(ticket: _Ticket, encoding: str, model: str | None = None) -> _Ticket:
    """Return a ticket in another encoding; the base model is loaded if that needs its weights.

    Args:
        ticket: The ticket.
        encoding: ``bits``, ``zstd`` or ``delta``.
        model: Folder or Hub id of the base model, if not where the ticket says. It is checked, too,
            where its weights are not needed.

    Raises:
        ModelError: The weights are needed and cannot be loaded.
        TicketError: There is no such encoding, or the weights are not those of the ticket.
    """
    if encoding != ticket.encoding and "delta" in (encoding, ticket.encoding):
        return ticket.encode(encoding, load_base(ticket, model).weights)  # which checks them
    if model is not None:
        ticket.check_weights(load_base(ticket, model).weights, model=model)
    return ticket.encode(encoding)


def with_masks(ticket: _Ticket) -> _Ticket:
    """Return a ticket not encoded as ``delta``, so that its masks can be read; see `recode`.

    Torch is used only if the base model's weights are not on this machine as safetensors.
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
