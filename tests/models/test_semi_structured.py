"""2:4 zeros become semi-structured tensors where a GPU can, and one line where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.semi_structured import has_two_of_four, semi_structured
from tamtctl.pruning.one_shot import keep_counts, reference_masks

ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def sparse_model(pattern: str = "2:4", **changes: Any) -> PreTrainedModel:
    """Return a model whose linear layers have the zeros of a pattern."""
    model = tiny.build("bert", **changes)
    matrices = {n: p for n, p in maskable_matrices(model).items() if "embeddings" not in n}
    weights = {name: one.detach() for name, one in matrices.items()}
    keep = keep_counts(weights, 0.5, pattern)
    for name, mask in reference_masks(weights, keep, pattern).items():
        matrices[name].data *= mask
    return model


def test_groups_of_four_with_two_zeros_are_found() -> None:
    assert has_two_of_four(torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 1]]))
    assert not has_two_of_four(torch.tensor([[1.0, 0, 0, 1, 0, 1, 1, 1]]))
    assert not has_two_of_four(torch.zeros(2, 6))
    assert not has_two_of_four(torch.zeros(8))
    assert all(
        has_two_of_four(weight)
        for name, weight in maskable_matrices(sparse_model()).items()
        if "embeddings" not in name
    )


def test_a_model_on_a_cpu_is_left_alone_with_a_line() -> None:
    model = sparse_model().half()
    before = {name: one.clone() for name, one in model.named_parameters()}
    with pytest.raises(ModelError, match="are for a CUDA GPU, and this model is on cpu: "):
        semi_structured(model)
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
class TestOnGpu:
    pytestmark = ON_GPU

    def test_outputs_are_those_of_zeros(self, dtype: torch.dtype) -> None:
        model = sparse_model(hidden_size=128, intermediate_size=256, max_position_embeddings=128)
        model = torch.nn.Module.to(model, "cuda", dtype)
        ids = torch.arange(5, 69).view(4, 16).cuda()

        def outputs() -> Tensor:
            with torch.inference_mode():
                states: Tensor = model(input_ids=ids)[0].float()
            return states

        expected = outputs()
        done = semi_structured(model)
        assert len(done.converted) == 12
        assert not done.dense
        assert (outputs() - expected).norm() < 0.02 * expected.norm()

    def test_what_the_kernels_do_not_take_is_said(self, dtype: torch.dtype) -> None:
        with pytest.raises(ModelError, match="no linear layer of this model has 2 zeros among"):
            semi_structured(torch.nn.Module.to(tiny.build("bert"), "cuda", dtype))
        odd = torch.nn.Module.to(sparse_model(hidden_size=8, intermediate_size=12), "cuda", dtype)
        with pytest.raises(ModelError, match="torch converts no matrix of this model"):
            semi_structured(odd)
