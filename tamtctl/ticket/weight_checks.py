"""Checking that a model holds the weights that a ticket's masks were found for.

Torch is imported only by functions that take tensors, so that looking at a ticket does not need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.format.metadata import TicketMetadata

if TYPE_CHECKING:
    from torch import Tensor

_BEFORE_TRAINING = "apply the ticket to that checkpoint, before fine-tuning or masking it"


def check_weights(
    ticket: TicketMetadata,
    weights: Mapping[str, Tensor],
    *,
    model: str | None = None,
    remedy: str | None = None,
    checksums: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Check the weights of the matrices that a ticket covers; see `StoredTicket.check_weights`.

    Args:
        ticket: The ticket, which has shapes and checksums of the weights.
        weights: Name → pre-trained weight of every maskable matrix of the model.
        model: The name of the model in an error.
        remedy: What an error about other weights advises to do.
        checksums: Name → SHA-256 of each weight, if it was computed before.

    Raises:
        TicketError: A matrix is missing, has another shape, or holds other weights.
    """
    from tamtctl.models.encoder import sha256_of_weight

    missing = check_shapes(ticket, weights, model=model, remedy=remedy)
    called = _called(model)
    present = {name: weights[name] for name in ticket.parameters if name in weights}
    for weight in present.values():
        _check_precision(weight, called)
    for name, weight in present.items():
        found = checksums[name] if checksums is not None else sha256_of_weight(weight)
        if found != ticket.parameters[name].sha256:
            raise TicketError(
                f"{name} of {called} does not hold the pre-trained weights of "
                f"{base_line(ticket)}; {remedy or _BEFORE_TRAINING}"
            )
    return missing


def check_shapes(
    ticket: TicketMetadata,
    weights: Mapping[str, Tensor],
    *,
    model: str | None = None,
    remedy: str | None = None,
) -> tuple[str, ...]:
    """Check the shapes of the matrices that a ticket covers; see `StoredTicket.check_shapes`."""
    called = _called(model)
    other = f"this ticket is for {base_line(ticket)}" + (f": {remedy}" if remedy else "")
    missing = tuple(name for name in ticket.parameters if name not in weights)
    if strange := [name for name in missing if not _is_pooler(name)]:
        raise TicketError(f"{called} has no matrix {strange[0]}; {other}")
    for name, entry in ticket.parameters.items():
        if name in weights:
            _check_form(name, weights[name], entry.shape, called, other)
    return missing


def base_line(ticket: TicketMetadata) -> str:
    """Return the base model of a ticket, as errors name it."""
    base = ticket.base_model
    revision = f" at revision {base.revision}" if base.revision else ""
    return f"{base.id} ({base.model_type}){revision}"


def _check_precision(weight: Tensor, called: str) -> None:
    import torch

    if weight.dtype not in (torch.float32, torch.float64):
        raise TicketError(
            f"{called} is in {str(weight.dtype).removeprefix('torch.')}, in which its weights "
            "cannot be verified; load it with dtype=torch.float32, cast it afterwards"
        )


def _is_pooler(name: str) -> bool:
    """Return whether a matrix is of the pooler, the only part of an encoder that a class may lack.

    All encoders of transformers that have a pooler use this name for it.
    """
    return name.split(".")[0] == "pooler"


def _called(model: str | None) -> str:
    return "the model" if model is None else f"model {model!r}"


def _check_form(name: str, weight: Tensor, shape: tuple[int, ...], called: str, other: str) -> None:
    if weight.is_meta:
        raise TicketError(f"{name} of {called} is on the meta device; load its weights first")
    found, wanted = list(weight.shape), list(shape)
    if found != wanted:
        raise TicketError(f"{name} of {called} has the shape {found}, not {wanted}; {other}")
