"""Applying a ticket: finding its model, setting pruned weights to zero, keeping the zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tamtctl.foundations.errors import TicketError
from tamtctl.models.encoder import base_encoder, maskable_matrices
from tamtctl.models.wrapped_models import is_data_parallel, layer_at, models_inside
from tamtctl.ticket.keeping import KeptZeros, keep_masked
from tamtctl.ticket.stored import StoredTicket

_Matrices = Mapping[str, nn.Parameter]


class _NotAppliedError(TicketError):
    """Pruned weights of a model are not zero."""


def apply(
    ticket: StoredTicket,
    model: object,
    *,
    keep: bool = False,
    pruned: Mapping[str, Tensor] | None = None,
) -> Applied:
    """Apply a ticket to a model; see `Ticket.apply`.

    Args:
        ticket: The ticket.
        model: See `Ticket.apply`.
        keep: See `Ticket.apply`.
        pruned: Name → mask of the ticket (True prunes), if the masks are decoded already.
    """
    found, matrices = _model_for(ticket, model, ticket.check_weights)
    missing = tuple(name for name in ticket.parameters if name not in matrices)
    present = {name: matrices[name] for name in ticket.parameters if name in matrices}
    masks = ticket.masks_over(present)

    def pruned_of(name: str) -> Tensor:
        return ~masks.mask(name) if pruned is None else pruned[name]

    untied = _untie(found, present, is_data_parallel=is_data_parallel(model))
    with torch.no_grad():
        for name, parameter in present.items():
            parameter.masked_fill_(pruned_of(name).to(parameter.device), 0.0)
    unmasked = tuple(name for name in matrices if name not in present)
    kept = keep_masked(found, {name: ~pruned_of(name) for name in present}) if keep else None
    return Applied(tuple(present), missing, unmasked, untied, kept)


def keep(ticket: StoredTicket, model: object) -> KeptZeros:
    """Keep the zeros of a model; see `Ticket.keep`."""
    found, matrices = _model_for(ticket, model, lambda weights: _check_zeros(ticket, weights))
    return keep_masked(found, {n: ticket.mask(n) for n in ticket.parameters if n in matrices})


def is_applied(ticket: StoredTicket, model: object) -> bool:
    """Return whether the pruned weights of a model are zero; see `Ticket.is_applied_to`."""
    try:
        _model_for(ticket, model, lambda weights: _check_zeros(ticket, weights))
    except _NotAppliedError:
        return False
    return True


def _model_for(
    ticket: StoredTicket, model: object, check: Callable[[Mapping[str, Tensor]], object]
) -> tuple[PreTrainedModel, _Matrices]:
    """Return the transformers model that a ticket is for, and its maskable matrices.

    Args:
        ticket: The ticket.
        model: A transformers model, or an object with one or several inside.
        check: Raises TicketError for matrices that are not the ticket's.

    Raises:
        TicketError: No model passes the check, or several do.
    """
    found = models_inside(model)
    if len(found) == 1:
        matrices = _matrices_of(found[0], ticket)
        check(matrices)
        return found[0], matrices
    return _the_one_of(found, type(model).__name__, ticket, check)


def _the_one_of(
    models: Sequence[PreTrainedModel],
    holder: str,
    ticket: StoredTicket,
    check: Callable[[Mapping[str, Tensor]], object],
) -> tuple[PreTrainedModel, _Matrices]:
    """Return the one of several models that passes a check, and its maskable matrices."""
    fitting, refusals = [], []
    for model in models:
        try:
            matrices = _matrices_of(model, ticket)
            check(matrices)
        except TicketError as error:
            refusals.append(error)
        else:
            fitting.append((model, matrices))
    if len(fitting) == 1:
        return fitting[0]
    kinds = ", ".join(type(model).__name__ for model in models)
    holds = f"this {holder} holds {len(models)} models ({kinds})"
    if fitting:
        raise TicketError(
            f"{holds}, and the ticket fits {len(fitting)} of them; give the one that is meant"
        )
    why = refusals[-1]
    kind = _NotAppliedError if isinstance(why, _NotAppliedError) else TicketError
    raise kind(f"{holds}, and none is what the ticket is for: {why}") from why


def _matrices_of(model: PreTrainedModel, ticket: StoredTicket) -> _Matrices:
    """Return the maskable matrices of a model; those of the ticket must be plain weights."""
    try:
        matrices = maskable_matrices(model)
    except (AttributeError, NotImplementedError) as error:
        raise TicketError(f"{type(model).__name__} has no word embeddings to mask") from error
    for name in ticket.parameters:
        if name not in matrices and (layer := layer_at(model, name)):
            raise TicketError(
                f"{name} of the model is in a {layer}, which is no plain layer; apply the ticket "
                "before the model is quantised or gets adapters"
            )
        if name in matrices:
            _check_plain(name, matrices[name])
    return matrices


def _check_plain(name: str, parameter: nn.Parameter) -> None:
    if not parameter.dtype.is_floating_point:
        raise TicketError(
            f"{name} of the model is quantised ({type(parameter).__name__}); apply the ticket to "
            "the model in float32 and quantise it afterwards"
        )
    if type(parameter.data) is not Tensor:
        raise TicketError(
            f"{name} of the model is a {type(parameter.data).__name__}, not the weights "
            "themselves; apply the ticket before they are sharded or quantised"
        )


def _check_zeros(ticket: StoredTicket, matrices: Mapping[str, Tensor]) -> None:
    """Check that the pruned weights of a model, in whatever precision, are zero.

    Raises:
        TicketError: A pruned weight is not zero, or the model lacks a matrix of the ticket.
    """
    ticket.check_shapes(matrices)
    for name in ticket.parameters:
        if name not in matrices:
            continue
        pruned = ~ticket.mask(name).to(matrices[name].device)
        if filled := int(matrices[name].detach()[pruned].count_nonzero()):
            raise _NotAppliedError(
                f"{filled:,} pruned weights of {name} are not zero in the model: the ticket was "
                "not applied to it, or its zeros were trained"
            )


def _untie(model: PreTrainedModel, masked: _Matrices, *, is_data_parallel: bool) -> tuple[str, ...]:
    """Give a decoder that is tied to masked word embeddings a dense copy of its own.

    Returns the names of all parameters that were untied.
    """
    embeddings = cast(Tensor, base_encoder(model).get_input_embeddings().weight)
    if not any(parameter is embeddings for parameter in masked.values()):
        return ()
    return untie_decoder(model, is_data_parallel=is_data_parallel)


def untie_decoder(model: PreTrainedModel, *, is_data_parallel: bool = False) -> tuple[str, ...]:
    """Give a decoder that is tied to the word embeddings a copy of its own.

    The configuration can untie only all that is tied, so a tied bias gets a copy of its own, too;
    else saving would lose it.

    Returns:
        The names of all parameters that were untied.

    Raises:
        TicketError: The head computes with the embeddings themselves, or the model is wrapped.
    """
    embeddings = cast(Tensor, base_encoder(model).get_input_embeddings().weight)
    _refuse_decoder_without_weights(model, len(embeddings))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    ties = model.get_expanded_tied_weights_keys(all_submodels=True)  # name → name it is tied to
    tied = {
        name: parameters[name]
        for name, source in ties.items()
        if name in parameters and parameters[name] is parameters.get(source)
    }
    if tied and is_data_parallel:
        raise TicketError(
            f"the decoder of this {type(model).__name__} gets weights of its own, which "
            "DistributedDataParallel would not know; apply the ticket before the model is wrapped"
        )
    for name, shared in tied.items():
        parent, _, attribute = name.rpartition(".")
        own = nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad)
        setattr(model.get_submodule(parent), attribute, own)
    if tied:
        model.config.tie_word_embeddings = False
        model.all_tied_weights_keys = {}
        model.register_state_dict_post_hook(partial(_separate, tuple(tied)))
    return tuple(tied)


def _separate(
    names: Sequence[str], model: nn.Module, state: dict[str, Any], prefix: str, _: object
) -> None:
    """Give tensors of a state dict that share memory with others memory of their own.

    ``resize_token_embeddings`` makes one parameter of an untied decoder's bias and the head's, of
    which ``save_pretrained`` would then leave out one.
    """
    others = {t.data_ptr() for name, t in state.items() if name.removeprefix(prefix) not in names}
    for name in (prefix + name for name in names):
        if name in state and state[name].data_ptr() in others:
            state[name] = state[name].clone()


def _refuse_decoder_without_weights(model: PreTrainedModel, vocabulary: int) -> None:
    """Refuse a head that computes with the word embeddings themselves, as it cannot stay dense.

    An example is that of deberta-v2 with ``legacy=False``, whose "output embeddings" are no matrix
    over the vocabulary.
    """
    decoder = model.get_output_embeddings()
    if decoder is not None and len(cast(Tensor, decoder.weight)) != vocabulary:
        raise TicketError(
            f"the head of this {type(model).__name__} computes with the word embeddings, "
            "so masking them would mask its decoder; load the model without that head (AutoModel)"
        )


@dataclass(frozen=True)
class Applied:
    """The result of applying a ticket to a model.

    Attributes:
        applied: Names of the matrices whose pruned weights are now zero.
        skipped: Matrices of the ticket that the model lacks; only the pooler's may be among them.
        unmasked: Maskable matrices of the model that the ticket does not cover, left as they were.
        untied: Parameters of the masked-LM decoder that shared memory with the embeddings and now
            have a copy of their own, which stays dense.
        kept: With ``keep=True``, the zeros that stay in training, until its `release`; else None.
    """

    applied: tuple[str, ...]
    skipped: tuple[str, ...]
    unmasked: tuple[str, ...]
    untied: tuple[str, ...]
    kept: KeptZeros | None = None
