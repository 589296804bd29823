"""Copying weights that were trained after pruning into a model with the same zeros."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.foundations.errors import TicketError
from tamtctl.models.encoder import base_encoder


@torch.no_grad()
def put_weights(
    weights: Mapping[str, Tensor], network: PreTrainedModel, masks: Mapping[str, Tensor]
) -> None:
    """Copy trained weights into a model to which a ticket was applied; its zeros must stay.

    Args:
        weights: Name in the base encoder → weight. Parameters that the model lacks, such as a
            pooler, are left out.
        network: The model, with its pruned weights at zero.
        masks: Name → boolean mask. The model may have further zeros, which were trained.

    Raises:
        TicketError: A weight has another shape, or is not zero where the ticket prunes.
    """
    own = dict(base_encoder(network).named_parameters())
    for name in weights.keys() & own.keys():
        parameter, weight = own[name], weights[name].to(own[name])
        if parameter.shape != weight.shape:
            raise TicketError(
                f"the trained weights of {name} have the shape {list(weight.shape)}, not the "
                f"model's {list(parameter.shape)}"
            )
        if name in masks and bool(weight[~masks[name].to(weight.device)].any()):
            raise TicketError(f"the trained weights of {name} are not zero where the ticket prunes")
        parameter.copy_(weight)
