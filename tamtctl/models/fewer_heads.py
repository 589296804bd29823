"""Models with fewer attention heads: those that contribute nothing are cut out.

A head whose columns of the attention's output matrix are zero adds nothing to any hidden state,
whatever its other weights and biases are. Without it the model has the same outputs. Each layer
may have another number of heads then, which no configuration of transformers can say: such a model
can be run and be written as a graph, but not be saved as a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tamtctl.models.attentions import Attention, attentions
from tamtctl.models.encoder import base_encoder, maskable_matrices, with_shared_weights

# What modules of transformers call the number of their heads, and the width of all of them.
_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
_WIDTHS = ("all_head_size",)


@dataclass(frozen=True)
class FewerHeads:
    """A model without some of its heads.

    Attributes:
        network: The model; it shares all weights that are not cut with the one it was made of.
        kept: How many heads are left in all layers together.
        of: How many there were.
    """

    network: PreTrainedModel
    kept: int
    of: int

    @property
    def note(self) -> str:
        """A line on the model."""
        return f"{self.kept:,} of {self.of:,} attention heads are left, the pruned ones are gone"


def without_idle_heads(network: PreTrainedModel) -> FewerHeads | None:
    """Return a model without the heads that contribute nothing; None if every head does.

    A layer without any such head keeps its first one.

    Args:
        network: A model with any head, which does not change.
    """
    found = {layer: _used(network, one) for layer, one in _attentions(network).items()}
    if all(bool(heads.all()) for heads in found.values()):
        return None
    return with_heads(network, found)


def with_heads(network: PreTrainedModel, kept: Mapping[str, Tensor]) -> FewerHeads:
    """Return a model with only some of its heads.

    Args:
        network: A model with any head, which does not change.
        kept: Layer → boolean tensor, shape (heads,): which of its heads are kept, at least one.
    """
    smaller = with_shared_weights(network)
    base = cast(nn.Module, base_encoder(smaller))
    found = _attentions(network)
    for layer, heads in kept.items():
        if not bool(heads.all()):
            _cut(base, found[layer], heads)
    return FewerHeads(
        smaller, sum(int(one.sum()) for one in kept.values()), sum(map(len, kept.values()))
    )


def head_count(network: PreTrainedModel) -> int | None:
    """Return how many heads each layer of a model has, as its configuration says; None if not."""
    count = getattr(network.config, "num_attention_heads", None)
    return count if type(count) is int and count > 0 else None


def _attentions(network: PreTrainedModel) -> dict[str, Attention]:
    """Return layer → self-attention of a model; empty if it has no heads that are known here."""
    count = head_count(network)
    shapes = {name: tuple(weight.shape) for name, weight in maskable_matrices(network).items()}
    try:
        found = attentions(shapes)
    except ValueError:
        return {}
    return found if count and all(one.width % count == 0 for one in found.values()) else {}


def _used(network: PreTrainedModel, attention: Attention) -> Tensor:
    """Return which heads of a layer contribute something, boolean of shape (heads,)."""
    last = maskable_matrices(network)[attention.last].detach()  # (H, width)
    used = last.view(len(last), head_count(network) or 1, -1).any(dim=2).any(dim=0)
    used[0] |= not used.any()
    return used


@torch.no_grad()
def _cut(base: nn.Module, attention: Attention, kept: Tensor) -> None:
    """Cut heads out of one self-attention, in place.

    Args:
        base: The encoder.
        attention: Its matrices.
        kept: Which heads stay, boolean of shape (heads,).
    """
    places, count = kept.nonzero().flatten(), len(kept)
    size = attention.width // count
    columns = (places[:, None] * size + torch.arange(size)).flatten()  # (kept · size,)
    parents: dict[int, nn.Module] = {}
    for name, parts in attention.firsts.items():
        path = name.removesuffix(".weight")
        first = cast(nn.Linear, base.get_submodule(path))
        rows = torch.cat([columns + part * attention.width for part in range(parts)])
        first.weight = nn.Parameter(first.weight[rows].contiguous())
        if first.bias is not None:
            first.bias = nn.Parameter(first.bias[rows].contiguous())
        first.out_features = len(rows)
        parent = base.get_submodule(path.rpartition(".")[0])
        parents[id(parent)] = parent
    last = cast(nn.Linear, base.get_submodule(attention.last.removesuffix(".weight")))
    last.weight = nn.Parameter(last.weight[:, columns].contiguous())
    last.in_features = len(columns)
    for parent in parents.values():
        for names, before, after in (
            (_COUNTS, count, len(places)),
            (_WIDTHS, attention.width, len(columns)),
        ):
            for name in names:
                if getattr(parent, name, None) == before:
                    setattr(parent, name, after)
        hook = partial(_of_kept_heads, tuple(places.tolist()), count)
        parent.register_forward_pre_hook(hook, with_kwargs=True)


def _of_kept_heads(
    places: Sequence[int],
    count: int,
    _: nn.Module,
    given: tuple[Any, ...],
    named: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Select the kept heads of what a module is given for each head, such as biases of positions.

    That is every tensor of shape (B, ``count``, T, T).
    """

    def of_kept(value: Any) -> Any:
        is_by_head = isinstance(value, Tensor) and value.dim() == 4 and value.shape[1] == count
        return torch.stack([value[:, place] for place in places], 1) if is_by_head else value

    return tuple(map(of_kept, given)), {name: of_kept(value) for name, value in named.items()}
