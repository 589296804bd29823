"""bf16 on a CPU: attention is computed in float32, and a hint names the faster precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from tamtctl.foundations.devices import Compute, precision_hint


def inputs(rows: int = 3, tokens: int = 5) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(rows, 2, tokens, 4).bfloat16().requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("mask", [None, torch.ones(1, 1, 5, 5).tril() == 1, torch.randn(5, 5)])
def test_attention_is_that_of_float32(mask: Tensor | None) -> None:
    query, key, value = inputs()
    with Compute.choose("cpu", "bf16").autocast():
        found = F.scaled_dot_product_attention(query, key, value=value, attn_mask=mask)
    found.sum().backward()
    again = [one.detach().float().requires_grad_() for one in (query, key, value)]
    expected = F.scaled_dot_product_attention(again[0], again[1], again[2], attn_mask=mask)
    expected.bfloat16().sum().backward()
    assert torch.equal(found, expected.bfloat16())
    for one, other in zip((query, key, value), again, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad.bfloat16())


def test_other_operations_are_those_of_autocast() -> None:
    left, right = torch.randn(4, 4), torch.randn(4, 4)
    with Compute.choose("cpu", "bf16").autocast():
        product = left @ right
    assert torch.equal(product, left.bfloat16() @ right.bfloat16())
    with Compute.choose("cpu", "fp32").autocast():
        assert torch.equal(left @ right, torch.mm(left, right))
    query, key, value = inputs()  # afterwards it is torch's own again
    assert F.scaled_dot_product_attention(query, key, value).dtype == torch.bfloat16


@pytest.mark.parametrize("has_units", [True, False])
def test_a_hint_names_the_precision_that_is_faster(
    has_units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_units)
    slower, faster = ("fp32", "bf16") if has_units else ("bf16", "fp32")
    assert f"--precision {faster} is" in precision_hint("cpu", slower)
    assert not precision_hint("cpu", faster)
    assert not precision_hint("cuda", slower)
