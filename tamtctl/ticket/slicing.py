"""A model without the neurons that a ticket prunes: smaller, and a stock one of transformers.

The rows of a pruned neuron go from the first matrix of its feed-forward network, with its bias, and
its column from the second; the configuration says how many are left. The model computes what the
masked one does: what a pruned neuron would add is multiplied by zeros.
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

# What configurations of transformers call the number of feed-forward neurons.
_SIZES = ("intermediate_size", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "d_inner", "d_ff")


@dataclass(frozen=True)
class Sliced:
    """What slicing left of a model.

    Attributes:
        size: What the configuration calls the number of neurons of a layer.
        kept: How many are left.
        of: How many there were.
    """

    size: str
    kept: int
    of: int

    @property
    def note(self) -> str:
        """One line about it."""
        return (
            f"{self.kept:,} of {self.of:,} feed-forward neurons of each layer are left, the pruned "
            f"ones are gone: config.json says {self.size} {self.kept}"
        )


def slice_neurons(network: PreTrainedModel, masks: Mapping[str, Tensor]) -> Sliced:
    """Take the pruned neurons out of a model, in place.

    Args:
        network: The model that a ticket of neurons is applied to, with any head.
        masks: Name → the ticket's mask of every matrix.

    Raises:
        ModelError: The configuration cannot say how many neurons are left.
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
    """Return the weights of a sliced model as those of the whole one, with zeros where it was cut.

    Args:
        weights: Name in the base encoder → weight of the sliced model.
        masks: Name → mask, by which it was sliced, of every matrix of a feed-forward network.

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
    """Return a weight with its rows or columns at their places among zeros."""
    if weight.shape[axis] != len(places):
        raise ModelError(
            f"{name} has {weight.shape[axis]:,} of {size:,} neurons, and its ticket keeps "
            f"{len(places):,}"
        )
    shape = list(weight.shape)
    shape[axis] = size
    return weight.new_zeros(shape).index_copy(axis, places, weight)


def _size_in(config: PreTrainedConfig, neurons: set[int]) -> str | None:
    """Return what a configuration calls the number of neurons, if all layers have as many."""
    values: dict[str, Any] = config.to_dict()
    named = [name for name in _SIZES if {values.get(name)} == neurons]
    return named[0] if len(named) == 1 else None


@torch.no_grad()
def _slice(base: nn.Module, network: FeedForward, places: Tensor) -> None:
    """Keep some neurons of one feed-forward network.

    Args:
        base: The encoder.
        network: Its matrices.
        places: Which neurons are kept, shape (kept,).
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
