"""Models with fewer attention heads have the outputs of those whose other heads are zeros."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tamtctl.models.attentions import attentions
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.fewer_heads import without_idle_heads

HEADS = 4


def model_of(family: str) -> PreTrainedModel:
    """Return a tiny model of 4 heads a layer, with biases that would show if they passed."""
    name = "n_heads" if family == "distilbert" else "num_attention_heads"
    model = tiny.build(family, with_head=False, **{name: HEADS})
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.3)
    return model


def prune(model: PreTrainedModel, *pruned: Sequence[int]) -> None:
    """Set the output columns of some heads to zero, layer by layer."""
    matrices = maskable_matrices(model)
    found = attentions({name: tuple(one.shape) for name, one in matrices.items()})
    for attention, heads in zip(found.values(), pruned, strict=False):
        with torch.no_grad():
            matrices[attention.last].view(16, HEADS, -1)[:, list(heads)] = 0


def outputs(model: PreTrainedModel) -> Tensor:
    ids = torch.randint(5, 80, (3, 9), generator=torch.Generator().manual_seed(0))
    seen = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    with torch.no_grad():
        states: Tensor = model(input_ids=ids, attention_mask=seen)[0]
    return states[seen.bool()]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_outputs_are_those_of_zeros(family: str) -> None:
    model = model_of(family)
    dense = outputs(model)
    prune(model, (1, 2), (0,))
    count = sum(p.numel() for p in model.parameters())
    expected = outputs(model)
    fewer = without_idle_heads(model)
    assert fewer is not None
    assert (fewer.kept, fewer.of) == ((2, 4) if family == "albert" else (5, 8))
    assert torch.allclose(outputs(fewer.network), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(dense, expected, atol=1e-3)
    assert torch.equal(outputs(model), expected)  # it has not changed
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(p.numel() for p in fewer.network.parameters()) < count


def test_a_layer_of_zeros_keeps_one_head() -> None:
    model = model_of("bert")
    prune(model, range(HEADS))
    fewer = without_idle_heads(model)
    assert fewer is not None
    assert (fewer.kept, fewer.of) == (5, 8)
    assert torch.allclose(outputs(fewer.network), outputs(model), rtol=0, atol=1e-5)


def test_a_model_without_idle_heads_is_left_alone() -> None:
    assert without_idle_heads(model_of("bert")) is None
