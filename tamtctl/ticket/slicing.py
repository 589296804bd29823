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
    sliced = size_to_set(network.config, masks)
    base = cast(nn.Module, base_encoder(network))
    for one, places in _kept_neurons(masks).items():
        _slice(base, one, places)
    setattr(network.config, sliced.size, sliced.kept)
    return sliced


def size_to_set(config: PreTrainedConfig, masks: Mapping[str, Tensor]) -> Sliced:
    """Return what the configuration of a sliced model has to say.

    Raises:
        ModelError: It cannot express how many neurons are left.
    """
    kept = _kept_neurons(masks)
    before = {one.neurons for one in kept}
    after = {len(places) for places in kept.values()}
    size = _size_in(config, before)
    if size is None or len(after) != 1:
        raise ModelError(
            f"a configuration of type {config.model_type} has one number of neurons for all "
            "layers under no name that is known here; the masked model has their zeros: "
            "Ticket.apply makes it"
        )
    (left,), (number,) = after, before
    return Sliced(size, left, number)


class CutOut:
    """The pruned neurons of an encoder, cut out until they are put back.

    Meanwhile its feed-forward networks have fewer neurons, in new Parameter objects.
    """

    def __init__(self, base: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """Cut the pruned neurons out of an encoder, in place.

        Args:
            base: The encoder; its configuration stays as it is.
            masks: Name → mask of every matrix, of whole neurons.
        """
        self._base = base
        self._masks = {name: mask.cpu() for name, mask in masks.items()}
        self._whole = dict(base.named_parameters())
        for one, places in _kept_neurons(masks).items():
            _slice(base, one, places)

    def put_back(self) -> None:
        """Give the encoder its own parameters again, with the values that they had."""
        for name, parameter in self._base.named_parameters():
            if parameter is not self._whole[name]:
                linear, _, own = name.rpartition(".")
                _resize(cast(nn.Linear, self._base.get_submodule(linear)), own, self._whole[name])

    def in_whole(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of the smaller encoder, on the CPU, in their original shapes."""
        return unsliced(weights, self._masks)


def unsliced(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a sliced model in their original shapes, with zeros for cut neurons.

    Args:
        weights: Name in the base encoder → weight of the sliced model.
        masks: Name → mask by which the model was sliced, of every feed-forward matrix.

    Raises:
        ModelError: The model was not sliced by these masks.
    """
    found = dict(weights)
    for network, places in _kept_neurons(masks).items():
        for name, halves in network.firsts.items():
            rows = torch.cat([places + half * network.neurons for half in range(halves)])
            for one in (name, f"{name.removesuffix('weight')}bias"):
                if one in weights:
                    found[one] = _spread_out(one, weights[one], 0, rows, masks[name].shape[0])
        second = network.second
        found[second] = _spread_out(second, weights[second], 1, places, network.neurons)
    return found


def _kept_neurons(masks: Mapping[str, Tensor]) -> dict[FeedForward, Tensor]:
    """Return feed-forward network → indices of the neurons that masks keep, shape (kept,)."""
    networks = feed_forwards({name: tuple(mask.shape) for name, mask in masks.items()})
    return {one: masks[one.second][0].nonzero().flatten() for one in networks.values()}


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
        _resize(first, "weight", nn.Parameter(first.weight[rows].contiguous()))
        if first.bias is not None:
            _resize(first, "bias", nn.Parameter(first.bias[rows].contiguous()))
    second = _linear(base, network.second)
    _resize(second, "weight", nn.Parameter(second.weight[:, places].contiguous()))


def _resize(linear: nn.Linear, name: str, parameter: nn.Parameter) -> None:
    """Give a linear layer a weight or a bias of another size."""
    setattr(linear, name, parameter)
    linear.out_features, linear.in_features = linear.weight.shape


def _linear(base: nn.Module, name: str) -> nn.Linear:
    return cast(nn.Linear, base.get_submodule(name.removesuffix(".weight")))
