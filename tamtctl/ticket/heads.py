"""The masked-LM head that a ticket may hold, and the check that it fits a model.

A head is what a ``…ForMaskedLM`` has beside the encoder: a transform and biases, without the matrix
of the decoder, which stays the pre-trained one. A ticket may come from anybody, so nothing is
copied into a model before `fitting_head` has compared names and shapes with those of its own head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.untrusted import RawTensor, show
from tamtctl.ticket.format.head_format import check_numbers

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def head_parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return name → parameter of a model's masked-LM head, each shared one once.

    The matrix of the decoder is left out, whether it is tied to the word embeddings or not.
    """
    encoder = {id(p) for p in model.base_model.parameters()}
    decoder = model.get_output_embeddings()
    matrix = None if decoder is None else decoder.weight
    return {
        name: p for name, p in model.named_parameters() if id(p) not in encoder and p is not matrix
    }


def fitting_head(
    head: Mapping[str, Tensor], own: Mapping[str, nn.Parameter], model: object
) -> dict[str, Tensor]:
    """Return a ticket's head, name → tensor, after checking that it fits a model.

    Args:
        head: The head of the ticket.
        own: The head of the model; see `head_parameters`.
        model: The model, whose class an error names.

    Raises:
        TicketError: A name or a shape differs from those of the model.
    """
    kind = type(model).__name__
    check_numbers(raw_head(head))
    remedy = "leave it out, or get the ticket anew from whoever made it"
    if strange := sorted(head.keys() - own.keys()):
        raise TicketError(
            f"the ticket's head is not that of a {kind}, which has no {show(strange[0])} in its "
            f"head; {remedy}"
        )
    if lost := sorted(own.keys() - head.keys()):
        raise TicketError(
            f"the ticket's head is not a whole head of a {kind}: it lacks {lost[0]}; {remedy}"
        )
    for name, parameter in own.items():
        if head[name].shape != parameter.shape:
            raise TicketError(
                f"the ticket's head is not that of this {kind}: {name} has the shape "
                f"{list(head[name].shape)}, not {list(parameter.shape)}; {remedy}"
            )
    return dict(head)


def put_head(head: Mapping[str, Tensor], own: Mapping[str, nn.Parameter], model: object) -> None:
    """Copy a ticket's head into a model's own; see `fitting_head`."""
    fitting = fitting_head(head, own, model)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(fitting[name])


def raw_head(tensors: Mapping[str, Tensor]) -> dict[str, RawTensor]:
    """Return a head's tensors as its file would hold them, for the checks that readers make."""
    return {name: _raw(tensor.detach().cpu().contiguous()) for name, tensor in tensors.items()}


def _raw(tensor: Tensor) -> RawTensor:
    dtype = _NAMES.get(tensor.dtype)
    if dtype is None:  # no dtype of a head; it is refused without its values
        return RawTensor(str(tensor.dtype), tuple(tensor.shape), bytearray())
    content = tensor.reshape(-1).view(torch.uint8).numpy()
    return RawTensor(dtype, tuple(tensor.shape), content.data)
