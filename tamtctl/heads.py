"""The masked-LM head that a ticket may bring along, and whether it is one of a model.

A head is what a ``…ForMaskedLM`` has beside the encoder, without the decoder's matrix, which stays
the pre-trained one: a transform and biases. A ticket may come from anybody, so that nothing is
copied into a model before `fitting_head` has found the very names and shapes of its own head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tamtctl.errors import TicketError
from tamtctl.untrusted import Defect, check_name, show

HEAD_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HEAD_FILE = "mlm_head.safetensors"


def head_parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return name → parameter of a model's masked-LM head, each shared one once.

    The decoder's matrix is none of them, whether it is tied to the word embeddings or not.
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
    """Return a ticket's head once it is known to be a whole one of a model's class.

    Args:
        head: The ticket's.
        own: The model's; see `head_parameters`.
        model: Whose class is named if it does not fit.

    Raises:
        TicketError: A name or a shape is not the model's.
    """
    kind = type(model).__name__
    check_values(head)
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


def check_head(tensors: Mapping[str, Tensor], matrices: Mapping[str, Iterable[int]]) -> None:
    """Raise Defect unless tensors can be a masked-LM head, as far as the ticket alone tells.

    Args:
        tensors: Name → tensor.
        matrices: Name → shape of the matrices that the ticket masks, none of which, nor anything
            beside them in the encoder, is part of a head.
    """
    if not tensors:
        raise Defect(f"{HEAD_FILE} holds no head")
    for name in tensors:
        check_name(name, HEAD_FILE)
    check_values(tensors)
    encoder = {name.split(".")[0] for name in matrices}
    embeddings = {tuple(shape) for name, shape in matrices.items() if "embedding" in name}
    for name, tensor in tensors.items():
        # A model with a head calls its encoder by one more part: bert.encoder.layer.0 and so on.
        parts = name.split(".")
        if parts[0] in encoder or (len(parts) > 2 and parts[1] in encoder):
            raise Defect(f"{HEAD_FILE}: {name} is part of the encoder, not of a head")
        if tensor.dim() == 2 and tuple(tensor.shape) in embeddings:
            raise Defect(f"{HEAD_FILE}: {name} is a decoder's matrix, which no ticket holds")


def check_values(tensors: Mapping[str, Tensor]) -> None:
    """Raise Defect unless all tensors are made of finite floating-point numbers."""
    for name, tensor in tensors.items():
        finite = tensor.dtype in HEAD_DTYPES and bool(torch.isfinite(tensor).all())
        if not finite:
            raise Defect(f"{HEAD_FILE}: {name} is not made of finite floating-point numbers")
