"""The method against independent formulations: dense straight-through, plain selection and Adam."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import cast

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import magnitude_masks, random_masks, start_of
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from tamtctl.data.batch import Batch
from tamtctl.foundations.masks import keep_count
from tamtctl.foundations.selection import Cut, keep_largest, keep_largest_on_device
from tamtctl.models.encoder import Encoder, maskable_matrices
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.trained.folded_weights import FoldedWeights
from tamtctl.training.optimizer import PaperAdamW
from tamtctl.training.schedules import linear_decay

SPARSITY = 0.6


def encoder_of(model: PreTrainedModel) -> Encoder:
    return Encoder("tiny", None, model, tiny.tokenizer(), maskable_matrices(model), {})


def random_batch(seed: int = 0, rows: int = 3, length: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, len(tiny.VOCABULARY), (rows, length), generator=generator)
    masked = (torch.rand(rows * length, generator=generator) < 0.3).nonzero().squeeze(1)
    labels = ids.flatten()[masked].clone()
    ids.view(-1)[masked] = 4
    return Batch(ids, masked, labels)


def dense_straight_through(
    model: PreTrainedModel, masks: dict[str, Tensor], batch: Batch, objective: str
) -> dict[str, Tensor]:
    """Score gradients by autograd alone: W * (m + S - S.detach()), full logits, a second model."""
    teacher = copy.deepcopy(model.base_model)
    model = copy.deepcopy(model)
    decoder = model.get_output_embeddings()
    decoder.weight = torch.nn.Parameter(decoder.weight.detach().clone())
    weights = maskable_matrices(model)
    prefix = model.base_model_prefix + "."
    scores = {n: torch.zeros_like(w, requires_grad=True) for n, w in weights.items()}
    effective = {
        prefix + n: w.detach() * (masks[n] + scores[n] - scores[n].detach())
        for n, w in weights.items()
    }
    output = functional_call(
        model,
        effective,
        (),
        {"input_ids": batch.input_ids, "output_hidden_states": True},
        tie_weights=False,
    )
    loss = torch.zeros((), dtype=torch.float64)
    if "mlm" in objective:
        logits = output.logits.flatten(0, 1)[batch.masked]
        loss = loss + F.cross_entropy(logits, batch.labels)
    if "kd" in objective:
        with torch.no_grad():
            states = teacher(input_ids=batch.input_ids, output_hidden_states=True).hidden_states
        for student, target in zip(output.hidden_states[1:], states[1:], strict=True):
            cosine = (student * target).sum(-1) / (student.norm(dim=-1) * target.norm(dim=-1))
            loss = loss + (1 - cosine).mean() / (len(states) - 1)
    loss.backward()
    return {n: s.grad for n, s in scores.items() if s.grad is not None}


@pytest.mark.parametrize("objective", ["mlm", "kd", "mlm+kd"])
@pytest.mark.parametrize("rows_at_once", [3, 1], ids=["whole", "accumulated"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_score_gradient_equals_dense_straight_through(
    family: str, objective: str, rows_at_once: int
) -> None:
    model = tiny.build(family).double()
    masks = random_masks(maskable_matrices(model), SPARSITY, seed=3)
    batch = random_batch()
    expected = dense_straight_through(model, masks, batch, objective)

    encoder = encoder_of(model)
    folded = FoldedWeights(encoder.matrices, start_of(masks))
    loss = Objective(encoder, objective, folded.frozen)
    targets = {term: len(blocks) for term, blocks in loss.blocks(batch).items()}
    parts = batch.split(rows_at_once)
    if len(parts) > 1:  # as the search does it on a CPU
        cast(nn.Embedding, encoder.base.get_input_embeddings()).sparse = True
    for part in parts:
        sums = [values.sum() / targets[term] for term, values in loss.terms(part).items()]
        with folded.taking_gradients() if len(parts) > 1 and part is parts[-1] else nullcontext():
            torch.stack(sums).sum().backward()
    folded.set_score_gradients()  # those that are not taken yet

    assert expected.keys() == {n for n, s in folded.scores.items() if s.grad is not None}
    for name, gradient in expected.items():
        torch.testing.assert_close(
            folded.scores[name].grad, gradient, rtol=1e-9, atol=1e-9, msg=name
        )
        # Straight-through: a pruned weight's score has a gradient too.
        assert (gradient[~masks[name]] != 0).any() or "embeddings" in name
    folded.clear_gradients()
    for name, weight in folded.frozen.items():
        assert torch.equal(folded.parameters[name], weight * masks[name])
        assert folded.scores[name].grad is folded.parameters[name].grad is None


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_decoder_stays_dense_and_nothing_but_scores_and_head_moves(family: str) -> None:
    model = tiny.build(family)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    dense_decoder = model.get_output_embeddings().weight.detach().clone()
    encoder = encoder_of(model)
    dense = {n: w.detach().clone() for n, w in encoder.matrices.items()}
    folded = FoldedWeights(encoder.matrices, start_of(magnitude_masks(dense, SPARSITY)))
    objective = Objective(encoder, "mlm", folded.frozen)
    run_steps(folded, objective, steps=3)

    assert torch.equal(model.get_output_embeddings().weight, dense_decoder)
    for name, weight in dense.items():
        assert torch.equal(folded.frozen[name], weight)
    matrices = {id(p) for p in encoder.matrices.values()}
    for name, parameter in model.named_parameters():
        moved = id(parameter) in matrices or name in objective.head
        if name in before:
            assert torch.equal(parameter, before[name]) != moved, name


def run_steps(
    folded: FoldedWeights, objective: Objective, steps: int, rate: float = 5e-3
) -> list[dict[str, Tensor]]:
    """Train as the search does; return the masks after each step."""
    optimizer = PaperAdamW(
        [*folded.scores.values(), *objective.head.values()],
        epsilon=1e-8,
        weight_decay=0.0,
        bias_correction=True,
        clip="global",
        max_grad_norm=1.0,
    )
    history = []
    for step in range(steps):
        batch = random_batch(seed=step)
        terms = objective.terms(batch)
        torch.stack([v.mean() for v in terms.values()]).sum().backward()
        folded.set_score_gradients()
        optimizer.step(linear_decay(rate, step, steps))
        folded.select()
        folded.clear_gradients()
        for parameter in objective.head.values():
            parameter.grad = None
        history.append(dict(folded.masks))
    return history


def plain_mask(scores: np.ndarray, weight: np.ndarray, sparsity: float) -> np.ndarray:
    """Sort everything: by score, then by |w|, then by position."""
    order = np.lexsort((np.arange(scores.size), -np.abs(weight).ravel(), -scores.ravel()))
    prune = math.floor(round(scores.size * sparsity, 6))
    mask = np.zeros(scores.size, bool)
    mask[order[: scores.size - prune]] = True
    return mask.reshape(scores.shape)


@pytest.mark.parametrize("sparsity", [0.0, 0.29, 0.7, 0.999])
@pytest.mark.parametrize("objective", ["mlm", "kd"])
def test_masks_equal_a_plain_reimplementation_after_every_step(
    objective: str, sparsity: float
) -> None:
    model = tiny.build("bert").double()
    plain = copy.deepcopy(model)
    encoder = encoder_of(model)
    start = magnitude_masks(encoder.matrices, sparsity)
    folded = FoldedWeights(encoder.matrices, start_of(start))
    history = run_steps(folded, Objective(encoder, objective, folded.frozen), steps=6)

    weights = {n: w.detach().clone() for n, w in maskable_matrices(plain).items()}
    masks = {n: plain_mask(np.abs(w.numpy()), w.numpy(), sparsity) for n, w in weights.items()}
    scores = {n: np.where(masks[n], 0.02, 0.0) for n in weights}
    head = [p for n, p in plain.named_parameters() if n.startswith("cls") and "decoder" not in n]
    head = head if objective == "mlm" else []
    state: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for step in range(6):
        torch_masks = {n: torch.from_numpy(m) for n, m in masks.items()}
        gradients = straight_through_with_head(
            plain, weights, torch_masks, head, random_batch(seed=step), objective
        )
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        rate = 5e-3 * (1 - step / 6)
        for name, gradient in gradients.items():
            clipped = gradient * min(1.0, 1.0 / (norm + 1e-6))
            change = paper_adam(state, name, clipped, step + 1, rate)
            if name in scores:
                scores[name] = scores[name] + change
            else:
                with torch.no_grad():
                    head[int(name)].add_(torch.from_numpy(change))
        masks = {n: plain_mask(scores[n], w.numpy(), sparsity) for n, w in weights.items()}
        for name, mask in masks.items():
            assert np.array_equal(history[step][name].numpy(), mask), (step, name)
            assert mask.sum() == keep_count(mask.size, sparsity)


def straight_through_with_head(
    model: PreTrainedModel,
    weights: dict[str, Tensor],
    masks: dict[str, Tensor],
    head: list[torch.nn.Parameter],
    batch: Batch,
    objective: str,
) -> dict[str, np.ndarray]:
    for parameter in head:
        parameter.grad = None
    copied = copy.deepcopy(model)
    gradients = dense_straight_through(copied, masks, batch, objective)
    result = {n: gradients[n].numpy() for n in weights if n in gradients}
    if head:
        decoder = model.get_output_embeddings().weight.detach().clone()
        masked = {f"bert.{n}": w * masks[n] for n, w in weights.items()}
        masked["cls.predictions.decoder.weight"] = decoder
        output = functional_call(
            model, masked, (), {"input_ids": batch.input_ids}, tie_weights=False
        )
        loss = F.cross_entropy(output.logits.flatten(0, 1)[batch.masked], batch.labels)
        for i, gradient in enumerate(torch.autograd.grad(loss, head)):
            result[str(i)] = gradient.numpy()
    return result


def paper_adam(
    state: dict[str, tuple[np.ndarray, np.ndarray]],
    name: str,
    gradient: np.ndarray,
    step: int,
    rate: float,
    epsilon: float = 1e-8,
    *,
    bias_correction: bool = True,
) -> np.ndarray:
    """The reference's AdamW in numpy: epsilon is added before the bias correction."""
    first, second = state.get(name, (np.zeros_like(gradient), np.zeros_like(gradient)))
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    state[name] = first, second
    size = rate
    if bias_correction:
        size = rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return -size * first / (np.sqrt(second) + epsilon)


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("bias_correction", [True, False])
def test_the_update_is_the_papers_adam(bias_correction: bool, low_memory: bool) -> None:
    generator = np.random.default_rng(0)
    plain = 0.02 * generator.normal(size=(50, 40))  # scores start 0.02 apart
    start = plain.copy()
    scores = torch.from_numpy(plain.astype(np.float32))
    decay = 0.01
    optimizer = PaperAdamW(
        [scores],
        epsilon=1e-6,
        weight_decay=decay,
        bias_correction=bias_correction,
        clip="per-tensor",
        max_grad_norm=1e9,
        low_memory=low_memory,
    )
    state: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for step in range(1, 9):
        gradient = generator.normal(size=plain.shape) * 10.0 ** generator.uniform(-9, -4)
        scores.grad = torch.from_numpy(gradient.astype(np.float32))
        optimizer.step(1e-2)
        change = paper_adam(state, "s", gradient, step, 1e-2, 1e-6, bias_correction=bias_correction)
        plain = plain * (1 - 1e-2 * decay) + change
    moved = np.abs(plain - start).max()
    # bfloat16 has 8 significant bits.
    assert np.abs(scores.numpy() - plain).max() < (moved * 2**-8 if low_memory else 1e-6)


def test_low_memory_updates_large_matrices_piece_by_piece_and_goes_on_from_its_state() -> None:
    def optimizer(scores: Tensor, low_memory: bool) -> PaperAdamW:
        return PaperAdamW(
            [scores],
            epsilon=1e-8,
            weight_decay=0.0,
            bias_correction=True,
            clip="global",
            max_grad_norm=1.0,
            low_memory=low_memory,
        )

    generator = torch.Generator().manual_seed(0)
    whole, saving = torch.zeros(3, 2**19), torch.zeros(3, 2**19)  # larger than a piece
    one, two = optimizer(whole, False), optimizer(saving, True)
    for step in range(4):
        gradient = torch.randn(whole.shape, generator=generator)
        for scores, its in ((whole, one), (saving, two)):
            scores.grad = gradient.clone()
            its.step(1e-3)
        if step == 1:
            state = {name: tensor.clone() for name, tensor in two.state_dict().items()}
            assert state["0.exp_avg"].dtype == torch.bfloat16
            two = optimizer(saving, True)
            two.load_state_dict(state)
    assert (whole - saving).abs().max() < 2**-8 * whole.abs().max()
    assert whole.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("numel", "sparsity", "keep"),
    [(100, 0.29, 71), (10, 0.0, 10), (10, 0.7, 3), (3, 0.999, 1), (7, 0.5, 4), (1000, 0.999, 1)],
)
def test_keep_count_is_taken_in_decimal(numel: int, sparsity: float, keep: int) -> None:
    assert keep_count(numel, sparsity) == keep


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, 0.0, 0.02, 0.5]), st.sampled_from([-2.0, 0.5, 1.0, 2.0])),
        min_size=1,
        max_size=60,
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_ties_go_to_the_larger_weight_then_the_lower_index(
    pairs: list[tuple[float, float]], share: float
) -> None:
    scores, weights = (np.array(column, np.float32) for column in zip(*pairs, strict=True))
    keep = len(scores) - int(len(scores) * share)
    order = np.lexsort((np.arange(len(scores)), -np.abs(weights), -scores))
    expected = np.zeros(len(scores), bool)
    expected[order[:keep]] = True
    for select in (keep_largest, keep_largest_on_device):
        found = select(torch.from_numpy(scores), keep, torch.from_numpy(weights).abs())
        assert np.array_equal(found.numpy(), expected)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([1e-3, 1e-6, 0.0]),  # how finely scores differ
    st.sampled_from([1e-4, 1e-2, 10.0]),  # how far they move in a step
)
def test_following_a_threshold_is_selecting_anew(
    seed: int, numel: int, sparsity: float, grain: float, pace: float
) -> None:
    generator = np.random.default_rng(seed)
    weights = torch.from_numpy(generator.choice([-1.0, 0.5, 1.0, 2.0], numel).astype(np.float32))
    scores = torch.from_numpy(generator.choice([0.0, 0.02], numel).astype(np.float32))
    keep = keep_count(numel, sparsity)
    cut = Cut(keep, 0.01)
    for _ in range(6):
        cut.follow(scores, weights)
        expected = keep_largest(scores, keep, weights.abs())
        assert torch.equal(cut.mask(scores), expected)
        assert torch.equal(keep_largest_on_device(scores, keep, weights.abs()), expected)
        moves = generator.random(numel) < generator.choice([0.0, 0.1, 1.0])
        scores = scores + torch.from_numpy(moves * generator.normal(0, pace, numel)).float()
        if grain:
            scores = (scores / grain).round() * grain


def test_random_masks_depend_on_seed_and_name_alone() -> None:
    weights = {"a": torch.ones(30, 20), "b": torch.ones(30, 20)}
    both, one = random_masks(weights, 0.7, 1), random_masks({"b": weights["b"]}, 0.7, 1)
    assert torch.equal(both["b"], one["b"])
    assert not torch.equal(both["a"], both["b"])
    assert not torch.equal(both["a"], random_masks(weights, 0.7, 2)["a"])
    assert int(both["a"].sum()) == 180
