"""Cutting pruned neurons out of a model; the result is a smaller, stock model of transformers.

A pruned neuron loses its rows in the first matrix of the feed-forward network, its bias, and its
column in the second matrix. The configuration states how many neurons are left. The outputs are
those of the masked model, in which the output of a pruned neuron is multiplied by zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import base_encoder
from tamtctl.models.structures import FeedForward, feed_forwards

# Names of the number of feed-forward neurons in configurations of transformers.
_SIZES = ("intermediate_size", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "d_inner", "d_ff")


@dataclass(frozen=True)
class Sliced:
    """The result of slicing a model.

    Attributes:
        size: The name of the number of neurons a layer in the configuration.
        kept: How many neurons a layer are left.
        of: How many there were.
    """

    size: str
    kept: int
    of: int

    @property
    def note(self) -> str:
        """A line on the result."""
        return (
            f"{self.kept:,} of {self.of:,} feed-forward neurons of each layer are left, the pruned "
            f"ones are gone: config.json says {self.size} {self.kept}"
        )


def slice_neurons(network: PreTrainedModel, masks: Mapping[str, Tensor]) -> Sliced:
    """Cut the pruned neurons out of a model, in place.

    Args:
        network: The model that a ticket of neurons is applied to, with any head.
        masks: Name → the ticket's mask of every matrix.

    Raises:
        ModelError: The configuration cannot express how many neurons are left.
    """
    base = cast(nn.Module, base_encoder(network))
    networks = feed_forwards({name: tuple(base.get_parameter(name).shape) for name in masks})
    kept = {one: masks[one.second][0].nonzero().flatten() for one in networks.values()}
    before = {one.neurons for one in kept}
    after = {len(places) for places in kept.values()}
    size = _size_in(network.config, before)
    if size is None or len(after) != 1:
        raise ModelError(
            f"the configuration of {type(network).__name__} has one number of neurons for all "
            "layers under no name that is known here; the masked model has their zeros: "
            "Ticket.apply makes it"
        )
    for one, places in kept.items():
        _slice(base, one, places)
    (left,), (number,) = after, before
    setattr(network.config, size, left)
    return Sliced(size, left, number)


def unsliced(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a sliced model in their original shapes, with zeros for cut neurons.

    Args:
        weights: Name in the base encoder → weight of the sliced model.
        masks: Name → mask by which the model was sliced, of every feed-forward matrix.

    Raises:
        ModelError: The model was not sliced by these masks.
    """
    found = dict(weights)
    for network in feed_forwards({name: tuple(m.shape) for name, m in masks.items()}).values():
        places = masks[network.second][0].nonzero().flatten()
        for name, halves in network.firsts.items():
            rows = torch.cat([places + half * network.neurons for half in range(halves)])
            for one in (name, f"{name.removesuffix('weight')}bias"):
                if one in weights:
                    found[one] = _spread_out(one, weights[one], 0, rows, masks[name].shape[0])
        second = network.second
        found[second] = _spread_out(second, weights[second], 1, places, network.neurons)
    return found


def _spread_out(name: str, weight: Tensor, axis: int, places: Tensor, size: int) -> Tensor:
    """Return a weight with its rows (axis 0) or columns (1) at their old places among zeros."""
    if weight.shape[axis] != len(places):
        raise ModelError(
            f"{name} has {weight.shape[axis]:,} of {size:,} neurons, and its ticket keeps "
            f"{len(places):,}"
        )
    shape = list(weight.shape)
    shape[axis] = size
    return weight.new_zeros(shape).index_copy(axis, places, weight)


def _size_in(config: PreTrainedConfig, neurons: set[int]) -> str | None:
    """Return the name of the number of neurons in a configuration, None if it is not clear."""
    values: dict[str, Any] = config.to_dict()
    named = [name for name in _SIZES if {values.get(name)} == neurons]
    return named[0] if len(named) == 1 else None


@torch.no_grad()
def _slice(base: nn.Module, network: FeedForward, places: Tensor) -> None:
    """Keep only some neurons of one feed-forward network.

    Args:
        base: The encoder.
        network: The matrices of the feed-forward network.
        places: Indices of the neurons that are kept, shape (kept,).
    """
    for name, halves in network.firsts.items():
        first = _linear(base, name)
        rows = torch.cat([places + half * network.neurons for half in range(halves)])
        first.weight = nn.Parameter(first.weight[rows].contiguous())
        if first.bias is not None:
            first.bias = nn.Parameter(first.bias[rows].contiguous())
        first.out_features = len(rows)
    second = _linear(base, network.second)
    second.weight = nn.Parameter(second.weight[:, places].contiguous())
    second.in_features = len(places)


def _linear(base: nn.Module, name: str) -> nn.Linear:
    return cast(nn.Linear, base.get_submodule(name.removesuffix(".weight")))
