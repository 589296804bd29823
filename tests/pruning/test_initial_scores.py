"""Scores in nats: the logarithm of a criterion, of which the initial mask follows to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from small_search import RECIPE, small_config
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.selection import keep_largest_in_rows, keep_largest_on_device
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import CRITERIA
from tamtctl.pruning.one_shot import Ranking
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.pruning.searching.api import search
from tamtctl.pruning.trained.initial_scores import MARGIN, scores_in_nats
from tamtctl.ticket.ticket import Ticket

# Zeros, ties, neighbours in float32 and a range of 80 nats.
VALUES = st.sampled_from([0.0, 1e-20, 1e-3, 0.5, 1.0, 1.0000001, 1.0000002, 2.0, 3.5, 1e15])


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Importances and weights, both (rows, columns), and how many are kept."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    size = rows * columns
    importance = draw(st.lists(VALUES, min_size=size, max_size=size))
    weights = draw(st.lists(st.sampled_from([0.0, -1.0, 0.5, 2.0]), min_size=size, max_size=size))
    shape = (rows, columns)
    keep = draw(st.integers(0, size))
    return torch.tensor(importance).view(shape), torch.tensor(weights).view(shape), keep


def ranking_of(importance: Tensor, weights: Tensor, *, by_row: bool = False) -> Ranking:
    names = frozenset("m")
    return Ranking({"m": importance}, {"m": weights.abs()}, names if by_row else frozenset(), names)


def scores_of(ranking: Ranking, mask: Tensor, keep: int, weights: Tensor) -> Tensor:
    return scores_in_nats(ranking, {"m": mask}, {"m": keep}, {"m": weights}, UNSTRUCTURED)["m"]


@settings(max_examples=300, deadline=None)
@given(matrices())
def test_scores_are_logarithms_around_the_threshold(matrix: tuple[Tensor, Tensor, int]) -> None:
    importance, weights, keep = matrix
    ranking = ranking_of(importance, weights)
    mask = ranking.masks({"m": keep})["m"]
    scores = scores_of(ranking, mask, keep, weights)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores > 0, mask)
    assert (scores != 0).all()
    assert torch.equal(keep_largest_on_device(scores, keep, weights.abs()), mask)  # as on a GPU
    plain = (importance if importance.any() else weights.abs()).numpy().astype(np.float64)
    plain[plain == 0] = plain[plain > 0].min() if plain.any() else 1.0
    logs = np.log(plain)
    kept, pruned = logs[mask.numpy()], logs[~mask.numpy()]
    low = kept.min() if kept.size else pruned.max()
    high = pruned.max() if pruned.size else kept.min()
    np.testing.assert_allclose(scores.numpy(), logs - (low + high) / 2, rtol=1e-5, atol=2e-9)


@settings(max_examples=300, deadline=None)
@given(matrices())
def test_each_row_has_its_threshold(matrix: tuple[Tensor, Tensor, int]) -> None:
    importance, weights, keep = matrix
    ranking = ranking_of(importance, weights, by_row=True)
    mask = ranking.masks({"m": keep})["m"]
    assert int(mask.sum()) == keep
    counts = mask.sum(1)
    assert counts.max() - counts.min() <= 1
    for row, kept, size in zip(importance, mask, weights.abs(), strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], -size[i], i))
        assert sorted(order[: int(kept.sum())]) == kept.nonzero().flatten().tolist()
    # A row that keeps one more would have lost the most by keeping as many as the others.
    if counts.max() > counts.min():
        following = importance.sort(1, descending=True).values[:, int(counts.min())]
        more = counts == counts.max()
        assert following[more].min() >= following[~more].max()
    scores = scores_of(ranking, mask, keep, weights)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores > 0, mask)


@settings(max_examples=300, deadline=None)
@given(matrices(), st.integers(0, 2**32 - 1), st.integers(0, 24))
def test_a_mask_of_another_origin_keeps_the_order_on_both_of_its_sides(
    matrix: tuple[Tensor, Tensor, int], seed: int, other: int
) -> None:
    importance, weights, keep = matrix
    noise = torch.rand(importance.shape, generator=torch.Generator().manual_seed(seed))
    count = min(other, importance.numel())
    mask = ranking_of(noise, weights).masks({"m": count})["m"]
    scores = scores_of(ranking_of(importance, weights), mask, count, weights)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores > 0, mask)
    for side in (mask, ~mask):
        values, found = importance[side], scores[side]
        assert torch.equal(found[values.argsort(stable=True)].sort().values, found.sort().values)
        for i in range(len(values)):
            assert (found[values > values[i]] >= found[i]).all()
    # Another number is reached by keeping more, or fewer, of the order that there is.
    shifted = scores_of(ranking_of(importance, weights), mask, keep, weights)
    assert int((shifted > 0).sum()) == keep
    kept_of_both = (shifted > 0) & mask
    assert int(kept_of_both.sum()) == min(keep, count)


def test_where_a_mask_and_the_criterion_disagree_the_scores_are_near_the_threshold() -> None:
    importance = torch.tensor([[1e-9, 0.5, 2.0, 1e9]])
    mask = torch.tensor([[True, False, False, True]])
    scores = scores_of(ranking_of(importance, importance), mask, 2, importance)[0]
    assert 0 < scores[0] < MARGIN < scores[3]
    assert -MARGIN < scores[2] < 0
    assert scores[1] < -MARGIN


@pytest.mark.parametrize("value", [-1.0, float("inf")])
def test_an_importance_without_a_logarithm_is_refused(value: float) -> None:
    importance = torch.tensor([[1.0, value]])
    ranking, mask = ranking_of(importance, importance), torch.tensor([[True, False]])
    with pytest.raises(UsageError, match="negative or infinite, which has no place in nats"):
        scores_of(ranking, mask, 1, importance)


def test_rows_are_cut_alike_in_a_large_matrix() -> None:
    values = torch.rand(1000, 96, generator=torch.Generator().manual_seed(0))
    mask = keep_largest_in_rows(values, 20_500)
    plain = torch.zeros_like(mask)
    plain[torch.arange(1000)[:, None], values.topk(20).indices] = True
    extra = values.sort(1, descending=True).values[:, 20].topk(500).indices
    plain[extra, values.topk(21).indices[extra, 20]] = True
    assert torch.equal(mask, plain)


@pytest.mark.parametrize("init", [*CRITERIA, "obs*fisher"])
def test_a_search_starts_at_the_one_shot_mask(
    init: str, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    start = search(small_config(tiny_model, text_file, method=init), output_dir=tmp_path / "one")
    config = small_config(
        tiny_model, text_file, init=init, init_scores="nats", steps=1, learning_rate=1e-12
    )
    trained = search(config, output_dir=tmp_path / "two")
    assert trained.changed is False
    one, two = Ticket.load(start.ticket), Ticket.load(trained.ticket)
    for name in one.parameters:
        assert torch.equal(one.mask(name), two.mask(name))
    assert two.mlm_head is None  # which a rate in nats would have ruined
    if not CRITERIA.get(init, CRITERIA["random"]).is_baseline:
        assert trained.losses["start"] == trained.losses["ticket"] == start.losses["ticket"]


def test_nats_are_asked_for_by_an_option_and_told_in_the_ticket(
    run: Run, tiny_model: Path, text_file: Path, working_folder: None
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    options = "search --sparsity 0.7 --recipe tiny.toml --steps 8 --json --device cpu".split()
    options += ["--init-scores", "nats", "--learning-rate", "0.05", "--keep-scores"]
    at: list[Any] = ["--model", tiny_model, "--corpus", text_file]
    done = run(*options, *at)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["flips"] > 0
    ticket = Ticket.load(Path(result["ticket"]))
    assert ticket.search["init_scores"] == "nats"
    for entry in ticket.parameters.values():
        assert entry.kept == entry.numel - int(entry.numel * 7 / 10)
    derived = run("search", "--from-scores", result["run_folder"], "--sparsity", 0.9, "--json")
    assert derived.code == 0, derived.err
    again = run(*options, *at, "--init", result["ticket"], "--steps", 1, "--learning-rate", 1e-12)
    assert again.code == 0, again.err
    same = Ticket.load(Path(json.loads(again.out)["ticket"]))
    assert all(torch.equal(same.mask(name), ticket.mask(name)) for name in ticket.parameters)


def test_settings_that_do_not_go_with_other_methods_are_refused() -> None:
    for method in ("imp", "magnitude"):
        settings: list[dict[str, Any]] = [{"init_scores": "nats"}, {"head_learning_rate": 1e-3}]
        for one in settings:
            with pytest.raises(UsageError, match="is for --method tamt"):
                SearchConfig.from_recipe("nano", sparsity=0.7, method=method, **one)
