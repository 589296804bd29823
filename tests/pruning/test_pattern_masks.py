"""Masks of every sparsity pattern against loops over plain numbers, on every family of encoders."""

from __future__ import annotations

import numpy as np
import patterns
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tickets import make_ticket
from torch import Tensor

from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.foundations.untrusted import Defect
from tamtctl.models.attentions import heads
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.structures import feed_forwards
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.one_shot import keep_counts, ranked
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.patterns.structured import summed
from tamtctl.pruning.trained.folded_structures import FoldedStructures, folded
from tamtctl.pruning.trained.initial_scores import Start, scores_in_nats
from tamtctl.ticket.format.pattern_check import check_pattern

NAMES = ("unstructured", "2:4", "4:8", "1:4", "block:4x4", "block:2x8", "neurons", "heads:4")
STRUCTURED = ("block:4x4", "neurons", "heads:4")


def weights_of(family: str) -> tuple[dict[str, Tensor], frozenset[str]]:
    model = tiny.build(family)
    weights = {name: p.detach() for name, p in maskable_matrices(model).items()}
    table = model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    return weights, frozenset(n for n, w in weights.items() if w.data_ptr() == table.data_ptr())


def sparsity_of(pattern: str) -> float:
    return find_pattern(pattern).sparsity or 0.3


@pytest.mark.parametrize("pattern", NAMES)
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "mpnet", "modernbert"])
def test_masks_are_those_of_plain_loops(family: str, pattern: str) -> None:
    """So are those that a training starts at, whatever its scores are."""
    weights, tables = weights_of(family)
    sparsity = sparsity_of(pattern)
    keep = keep_counts(weights, sparsity, pattern, tables)
    assert (pattern == "unstructured") == bool(keep.keys() & tables)
    chosen = {name: weights[name] for name in keep}
    for criterion in ("magnitude", "random"):
        ranking = ranked(criterion, Context(weights=weights, seed=3), weights)
        masks = ranking.masks(keep, pattern)
        plain = {name: ranking.importance[name].double().numpy() for name in keep}
        expected = patterns.expected_masks(pattern, plain, sparsity)
        assert {name: int(mask.sum()) for name, mask in masks.items()} == keep
        for name, mask in masks.items():
            assert np.array_equal(mask.numpy(), expected[name]), name
        nats = scores_in_nats(ranking, masks, keep, chosen, pattern)
        for start in (Start(masks, keep), Start(masks, keep, nats)):
            parameters = {n: torch.nn.Parameter(w.clone()) for n, w in chosen.items()}
            found = folded(parameters, start, pattern=pattern).masks
            assert all(torch.equal(found[name], mask) for name, mask in masks.items())
            for name, parameter in parameters.items():
                assert torch.equal(parameter, weights[name] * masks[name])


@pytest.mark.parametrize("pattern", STRUCTURED)
def test_a_structure_learns_from_the_sum_over_its_weights(pattern: str) -> None:
    weights, tables = weights_of("modernbert")
    keep = keep_counts(weights, 0.3, pattern, tables)
    chosen = {name: weights[name] for name in keep}
    masks = ranked("magnitude", Context(weights=chosen), chosen).masks(keep, pattern)
    parameters = {n: torch.nn.Parameter(w.clone()) for n, w in chosen.items()}
    training = folded(parameters, Start(masks, keep), pattern=pattern)
    assert isinstance(training, FoldedStructures)
    gradients = {n: torch.randn(w.shape, generator=torch.Generator().manual_seed(1))
                 for n, w in chosen.items()}  # fmt: skip
    for name, parameter in parameters.items():
        parameter.grad = gradients[name].clone()
    training.set_score_gradients()
    found = torch.cat([one.grad for one in training.scores.values() if one.grad is not None])
    shapes = {name: tuple(weight.shape) for name, weight in chosen.items()}
    expected = [
        sum(float(gradients[n][r, c] * chosen[n][r, c]) for n, r, c in unit)
        for group in patterns.units(pattern, shapes)
        for unit in group
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)
    for scores in training.scores.values():  # a step that turns the order round
        scores.copy_(-scores + torch.linspace(0, 1e-3, len(scores)))
    training.select()
    turned = training.masks
    plain = {name: mask.numpy() for name, mask in turned.items()}
    assert patterns.is_of(pattern, plain, 0.3)
    assert not all(torch.equal(turned[name], masks[name]) for name in masks)
    for name, parameter in parameters.items():
        assert torch.equal(parameter, chosen[name] * turned[name])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_equal_scores_are_told_apart_by_weight_and_place(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 6))
    kept = data.draw(st.integers(1, size - 1))
    rows, groups = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    count = rows * groups * size
    values = data.draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))
    ranks = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    scores = torch.tensor(values, dtype=torch.float32).view(rows, -1)
    ties = torch.tensor(ranks, dtype=torch.float32).view(rows, -1)
    row = find_pattern(f"{kept}:{size}")
    most = data.draw(st.integers(count // size * kept, count))
    mask = row.select({"w": scores}, {"w": most}, {"w": ties})["w"].flatten().tolist()
    expected = [False] * count
    order = sorted(range(count), key=lambda i: (-values[i], -ranks[i], i))
    for start in range(0, count, size):
        own = [i for i in order if start <= i < start + size]
        for i in own[:kept]:
            expected[i] = True
    for i in [i for i in order if not expected[i]][: most - sum(expected)]:
        expected[i] = True
    assert mask == expected


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_blocks_are_ranked_by_their_sums(data: st.DataObject) -> None:
    high, wide = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 3))
    down, across = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    shape = (high * down, wide * across)
    values = data.draw(
        st.lists(st.integers(0, 9), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    )
    plain = np.array(values, float).reshape(shape)
    sparsity = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.9]))
    row = find_pattern(f"block:{high}x{wide}")
    keep = row.keep({"w": shape}, sparsity)
    mask = row.select({"w": torch.tensor(plain)}, keep)["w"].numpy()
    assert np.array_equal(mask, patterns.expected_masks(row.name, {"w": plain}, sparsity)["w"])
    (slices,) = row.structures({"w": shape})["w"]
    assert summed(slices, torch.tensor(plain)).sum() == plain.sum()


def test_feed_forward_networks_are_found_by_shape() -> None:
    shapes = {
        "layers.0.attn.o.weight": (8, 8),
        "layers.0.mlp.gate.weight": (24, 8),
        "layers.0.mlp.up.weight": (24, 8),
        "layers.0.mlp.down.weight": (8, 24),
        "layers.1.dense.weight": (8, 8),  # square: the second leads back
        "layers.1.dense_out.weight": (8, 8),
        "layers.2.attention.q.weight": (8, 8),
        "pooler.dense.weight": (8, 8),
        "projection.weight": (8, 8),
    }
    found = feed_forwards(shapes)
    assert set(found) == {"layers.0", "layers.1"}
    assert found["layers.0"].second == "layers.0.mlp.down.weight"
    assert found["layers.1"].second == "layers.1.dense_out.weight"
    for odd in ((8, 24), (24, 24), (7, 8)):
        with pytest.raises(ValueError, match=r"matrices of layers\.0 are no single feed-forward"):
            feed_forwards(shapes | {"layers.0.mlp.more.weight": odd})


def test_attentions_are_found_by_name_and_shape() -> None:
    shapes = {f"layers.0.attn.{n}.weight": (12, 8) for n in ("q_proj", "k_proj", "v_proj")}
    shapes |= {"layers.0.attn.o_proj.weight": (8, 12), "layers.0.mlp.up.weight": (24, 8)}
    shapes |= {"layers.1.attention.Wqkv.weight": (36, 8), "layers.1.attention.Wo.weight": (8, 12)}
    found = heads(shapes, 3)
    assert [[one.matrix for one in group] for group in found.values()] == [
        [n for n in shapes if n.startswith("layers.0.attn")],
        [n for n in shapes if n.startswith("layers.1")],
    ]
    assert {one.weights_each for one in found["layers.0"]} == {32}
    assert [one.weights_each for one in found["layers.1"]] == [96, 32]
    query = "layers.0.attn.q_proj.weight"
    for odd, said in (
        (shapes | {"layers.0.attn.other.weight": (8, 8)}, "of layers.0 are not those of queries"),
        (shapes | {"layers.1.attention.query.weight": (8, 8)}, "of layers.1 are not those"),
        ({n: s for n, s in shapes.items() if n != query}, "of layers.0 are not those of queries"),
        (shapes | {query: (6, 8)}, "q_proj.weight has 6 rows, and not 12"),
        ({"layers.0.mlp.up.weight": (24, 8)}, "no layer has a self-attention"),
    ):
        with pytest.raises(ValueError, match=said):
            heads(odd, 3)
    with pytest.raises(ValueError, match="12 wide, has no 5 heads"):
        heads(shapes, 5)


def test_a_layer_without_heads_is_no_mask_of_heads() -> None:
    weights, tables = weights_of("bert")
    keep = keep_counts(weights, 0.5, "heads:4", tables)
    masks = {name: np.ones(tuple(weights[name].shape), bool) for name in keep}
    for name in (first := [n for n in masks if ".0." in n]):
        masks[name][:] = False
    assert len(first) == 4
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    with pytest.raises(Defect, match="it keeps none of the attention heads of"):
        check_pattern("heads:4", shapes, masks.__getitem__)


def test_a_ticket_is_of_the_pattern_that_it_names() -> None:
    weights, tables = weights_of("bert")
    for pattern in NAMES[1:]:
        keep = keep_counts(weights, sparsity_of(pattern), pattern, tables)
        chosen = {name: weights[name] for name in keep}
        masks = ranked("magnitude", Context(weights=chosen), chosen).masks(keep, pattern)
        plain = {name: mask.numpy().copy() for name, mask in masks.items()}
        shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
        assert check_pattern(pattern, shapes, plain.__getitem__)
        first = next(iter(plain))
        on, off = np.argwhere(plain[first])[0], np.argwhere(~plain[first])[-1]
        plain[first][tuple(on)], plain[first][tuple(off)] = False, True  # as many as before
        with pytest.raises(Defect, match=f"mask of {first} is not {pattern}: it keeps"):
            check_pattern(pattern, shapes, plain.__getitem__)
        with pytest.raises(TicketError, match="this ticket: mask of"):
            make_ticket(chosen, {n: torch.from_numpy(m) for n, m in plain.items()}, pattern=pattern)
        assert make_ticket(chosen, masks, pattern=pattern).pattern == pattern
    assert check_pattern("diagonal", {}, plain.__getitem__) is None


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("n:m", "--pattern n:m has numbers, as in 2:4"),
        ("block:RxC", "--pattern block:RxC has numbers, as in block:4x4"),
        ("4:2", "--pattern 4:2 prunes nothing; give n:m with n below m, as in 2:4"),
        ("4:4", "--pattern 4:4 prunes nothing"),
        ("0:4", "--pattern must be one of unstructured, n:m, block:RxC, heads, neurons, got '0:4'"),
        ("block:1x1", "--pattern block:1x1 is unstructured; give that"),
        ("heads:0", "--pattern must be one of"),
        ("block:4", "--pattern must be one of"),
        ("neuron", "did you mean neurons?"),
    ],
)
def test_a_name_that_means_nothing_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        SearchConfig.from_recipe("nano", sparsity=0.5, pattern=pattern)
    assert said in str(refused.value)


def test_a_model_that_cannot_be_of_a_pattern_is_refused() -> None:
    weights, tables = weights_of("bert")
    for pattern, said in {
        "2:5": "rows of 16 weights, no multiple of 5",
        "block:3x4": "of 16 x 16 weights is not made of blocks of 3 x 4",
    }.items():
        with pytest.raises(UsageError) as refused:
            keep_counts(weights, 0.6, pattern, tables)
        assert f"--pattern {pattern} is not for this model" in str(refused.value)
        assert said in str(refused.value)
    attention = {name: weight for name, weight in weights.items() if "attention" in name}
    with pytest.raises(UsageError, match="no layer has a feed-forward network of two matrices"):
        keep_counts(attention, 0.5, "neurons")


def test_a_pattern_of_one_sparsity_has_no_other() -> None:
    with pytest.raises(UsageError, match=r"--pattern 2:4 has the sparsity 0\.5 alone; give"):
        SearchConfig.from_recipe("nano", sparsity=0.6, pattern="2:4")
    config = SearchConfig.from_recipe("nano", sparsity=0.666667, pattern="1:3")
    assert find_pattern(config.pattern).keep({"w": (3, 9)}, config.settled_sparsity) == {"w": 9}
