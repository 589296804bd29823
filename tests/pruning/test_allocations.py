"""The shelf of allocations: exact counts, against sorting everything at once."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from small_search import RECIPE, small_config
from torch import Tensor

from tamtctl.cli.views.words import gap_closed
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.masks import keep_count
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.allocations import ALLOCATIONS, Allocation, global_ranking
from tamtctl.pruning.allocations.request import Request
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.one_shot import reference_masks
from tamtctl.pruning.searching.api import search
from tamtctl.ticket.hub.card_text import introduction
from tamtctl.ticket.ticket import Ticket

VALUES = st.sampled_from([0.0, 1e-30, 0.25, 0.5, 0.5000001, 1.0, 3.0, 1e30])


class Halves:
    """Of the weights that are kept, the first matrix gets as many as it has."""

    def keep(self, request: Request) -> Mapping[str, int]:
        first, *others = request.even
        assert request.importance
        spare = request.sizes[first] - request.even[first]
        counts = {first: request.sizes[first]}
        for name in others:
            less = min(spare, request.even[name])
            counts[name] = request.even[name] - less
            spare -= less
        return counts


HALVES = Allocation(name="halves", code=Halves())


@st.composite
def requests(draw: st.DrawFn) -> Request:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    importance = {
        f"m{i}": torch.tensor(draw(st.lists(VALUES, min_size=n, max_size=n)))
        for i, n in enumerate(sizes)
    }
    sparsity = draw(st.sampled_from([0.0, 0.29, 0.5, 0.7, 0.9, 0.98]))
    floor = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5]))
    return request_of(importance, sparsity, floor, frozenset({"m0"}))


def request_of(
    importance: dict[str, Tensor], sparsity: float, floor: float, embeddings: frozenset[str]
) -> Request:
    sizes = {name: one.numel() for name, one in importance.items()}
    even = {name: keep_count(size, sparsity) for name, size in sizes.items()}
    return Request(
        sparsity=sparsity, sizes=sizes, even=even, importance=importance, embeddings=embeddings,
        floor=floor,
    )  # fmt: skip


def plain(importance: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int] | None:
    """Sort the weights of all matrices; those that a floor keeps come first of all."""
    rows = []
    for place, one in enumerate(importance.values()):
        least = int(Decimal(repr(floor)) * one.numel())
        least = max(least, 1) if floor else 0
        order = np.argsort(-one.numpy(), kind="stable")
        ranked = {int(i): rank for rank, i in enumerate(order)}
        rows += [(ranked[i] >= least, -float(v), place, i) for i, v in enumerate(one)]
    wanted = len(rows) - int(Decimal(repr(sparsity)) * len(rows))
    if sum(not over for over, *_ in rows) > wanted:
        return None
    kept = [place for _, _, place, _ in sorted(rows)[:wanted]]
    return {name: kept.count(i) for i, name in enumerate(importance)}


@settings(max_examples=400, deadline=None)
@given(requests())
def test_global_budgets_equal_sorting_all_weights(request: Request) -> None:
    wanted = plain(request.importance, request.sparsity, request.floor)
    if wanted is None:
        with pytest.raises(UsageError, match="the highest sparsity is"):
            ALLOCATIONS["global"].keep(request)
        return
    counts = ALLOCATIONS["global"].keep(request)
    assert counts == wanted
    total = sum(request.sizes.values())
    assert sum(counts.values()) == keep_count(total, request.sparsity)


@settings(max_examples=200, deadline=None)
@given(requests())
def test_by_type_leaves_the_embeddings_their_sparsity(request: Request) -> None:
    others = {name: one for name, one in request.importance.items() if name != "m0"}
    wanted = plain(others, request.sparsity, request.floor)
    if wanted is None:
        with pytest.raises(UsageError, match="the highest sparsity is"):
            ALLOCATIONS["by-type"].keep(request)
    else:
        assert ALLOCATIONS["by-type"].keep(request) == {"m0": request.even["m0"]} | wanted


def test_uniform_budgets_are_alike() -> None:
    request = request_of({"a": torch.rand(7), "b": torch.rand(100)}, 0.29, 0.02, frozenset())
    assert ALLOCATIONS["uniform"].keep(request) == {"a": 5, "b": 71}


def test_what_budgets_cannot_be_made_of_is_refused() -> None:
    for bad in (-1.0, float("inf")):
        request = request_of({"a": torch.tensor([1.0, bad])}, 0.5, 0.0, frozenset())
        with pytest.raises(UsageError, match="budgets need importances that are at least 0 and"):
            ALLOCATIONS["global"].keep(request)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"a": 9}, "allocation 'odd' gives a 9 weights"),
        ({"b": 1}, "allocation 'odd' gives b 1 weights"),
        ({"a": 3.5}, r"allocation 'odd' gives a 3\.5 weights; give a whole number"),
        (None, "allocation 'odd' gives None, not name → count"),
        ({"a": 2}, r"allocation 'odd' keeps 2 weights in all, and --sparsity 0\.5 4"),
    ],
)
def test_what_an_allocation_says_is_checked(said: object, line: str) -> None:
    row = Allocation(name="odd", code=SimpleNamespace(keep=lambda request: said))
    request = request_of({"a": torch.rand(8)}, 0.5, 0.0, frozenset())
    with pytest.raises(UsageError, match=line):
        row.keep(request)


def test_counts_may_be_tensors() -> None:
    row = Allocation(name="odd", code=SimpleNamespace(keep=lambda _: {"a": torch.tensor(4)}))
    counts = row.keep(request_of({"a": torch.rand(8)}, 0.5, 0.0, frozenset()))
    assert json.dumps(counts) == '{"a": 4}'


def test_settings_that_do_not_go_together_are_refused() -> None:
    for words, message in (
        ({"floor": 0.1}, "--floor is for an --allocation that is not uniform"),
        ({"budget_criterion": "magnitude"}, "--budget-criterion is for an --allocation that is"),
        ({"allocation": "global", "init": "random"}, "those of random mean nothing there; give"),
        ({"allocation": "global", "method": "random"}, "those of random mean nothing there; give"),
        ({"allocation": "global", "init": "obs*magnitude"}, r"those of obs\*magnitude mean noth"),
        ({"allocation": "by-type", "budget_criterion": "swaps"}, "those of swaps mean nothing"),
        ({"allocation": "global", "init": "some/ticket"}, "is a ticket; give --budget-criterion"),
        ({"allocation": "global", "floor": 0.4}, r"with this floor it is at most 0\.6"),
        ({"allocation": "globe"}, "--allocation must be one of uniform, global, by-type"),
    ):
        with pytest.raises(UsageError, match=message):
            SearchConfig.from_recipe("paper", sparsity=0.7, **words)
    config = SearchConfig.from_recipe("paper", sparsity=0.98, allocation="global")
    assert "floor" not in config.to_dict()
    assert "allocation" not in SearchConfig.from_recipe("paper", sparsity=0.7).to_dict()


def counts_of(ticket: Ticket) -> dict[str, int]:
    found = {name: int(ticket.mask(name).sum()) for name in ticket.parameters}
    assert found == {name: entry.kept for name, entry in ticket.parameters.items()}
    return found


@pytest.mark.parametrize("row", [*ALLOCATIONS.values(), HALVES], ids=lambda row: row.name)
@pytest.mark.parametrize("method", ["tamt", "imp", "magnitude"])
def test_every_row_is_a_budget_of_every_kind_of_method(
    row: Allocation, method: str, tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    if row is not HALVES:
        text = importlib.import_module(str(row.code)).__doc__ or ""
        assert re.search(r"\(.+ et\s+al\., \d{4}", text), "the source"
        assert "\nRelations: " in text
    Path("tiny.toml").write_text(RECIPE)
    options = f"--sparsity 0.7 --method {method} --recipe tiny.toml --allocation {row.name}"
    options += " --init magnitude"
    options += "" if row.is_uniform else " --budget-criterion magnitude"
    options += {"tamt": " --steps 6 --init-scores nats --learning-rate 0.05 --keep-scores",
                "imp": " --prune-every 1"}.get(method, "")  # fmt: skip
    at: list[Any] = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu", "--json"]
    with ALLOCATIONS.holding(row) if row is HALVES else pytest.MonkeyPatch.context():
        done = run("search", *options.split(), *at)
        assert done.code == 0, done.err
        result = json.loads(done.out)
        ticket = Ticket.load(Path(result["ticket"]))
        encoder = load_encoder(str(tiny_model), with_head=False)
        importance = {n: w.abs().flatten() for n, w in encoder.weights.items()}
        wanted = row.keep(request_of(importance, 0.7, 0.02, encoder.embeddings))
        assert counts_of(ticket) == wanted
        assert ticket.allocation == ("uniform" if row.is_uniform else "free")
        assert result["allocation"] == row.name
        (table,) = encoder.embeddings
        pruned = 1 - wanted[table] / encoder.weights[table].numel()
        assert result["sparsities"]["embeddings"] == pytest.approx(pruned)
        assert ("start" in result["losses"]) == (method != "magnitude" and not row.is_uniform)
        if not row.is_uniform:
            assert f"{row.name} by magnitude: embeddings {pruned:.4g}, layers" in done.err
            assert f"({row.name}: embeddings {pruned:.4g}, layers" in done.err
        if not row.is_uniform:
            others = sum(wanted.values()) - wanted[table]
            rest = 1 - others / (ticket.total - encoder.weights[table].numel())
            parts = f"embeddings {pruned:.4g}, layers {rest:.4g}"
            assert parts in run("inspect", result["ticket"]).out.replace("\n", " ")
            listed = json.loads(run("list", "--json").out)["tickets"]
            (line,) = (one for one in listed if one["path"] == result["ticket"])
            assert line["sparsities"] == pytest.approx({"embeddings": pruned, "layers": rest})
            assert f"Zeros are {pruned:.4g} of the embeddings and {rest:.4g} of the layers" in (
                introduction(ticket).replace("\n", " ")
            )
        if method != "tamt":
            return
        other = run("search", "--from-scores", result["run_folder"], "--sparsity", 0.5, "--json")
        assert other.code == 0, other.err
        derived = Ticket.load(Path(json.loads(other.out)["ticket"]))
        assert counts_of(derived) == row.keep(request_of(importance, 0.5, 0.02, encoder.embeddings))


def test_a_mask_has_the_budgets_of_another_criterion(
    tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    """The order is random, the budgets are those of magnitude; a pooler takes no part in them."""
    at: list[Any] = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu", "--json"]
    at += ["--sparsity", 0.6, "--sequence-length", 16, "--allocation", "global"]
    at += ["--budget-criterion", "magnitude"]
    random = run("search", "--method", "random", *at)
    assert random.code == 0, random.err
    magnitude = run("search", "--method", "magnitude", *at)
    tickets = [Ticket.load(Path(json.loads(done.out)["ticket"])) for done in (random, magnitude)]
    assert counts_of(tickets[0]) == counts_of(tickets[1])
    assert any(
        not torch.equal(tickets[0].mask(n), tickets[1].mask(n)) for n in counts_of(tickets[0])
    )


@pytest.mark.parametrize("init", ["magnitude", "obs"])
def test_a_pooler_takes_no_part_in_budgets_and_keeps_the_magnitude_mask(
    init: str, text_file: Path, tmp_path: Path
) -> None:
    model = tiny.save(tmp_path / "m", "bert", with_head=False)
    config = small_config(
        model, text_file, objective="kd", sparsity=0.7, allocation="global", init=init, steps=4,
        init_scores="nats", learning_rate=0.05, budget_criterion="magnitude",
    )  # fmt: skip
    ticket = Ticket.load(search(config, output_dir=tmp_path / "run").ticket)
    encoder = load_encoder(str(model), with_head=False)
    (name,) = encoder.pooler
    count = keep_count(encoder.pooler[name].numel(), 0.7)
    assert torch.equal(ticket.mask(name), reference_masks(encoder.pooler, {name: count})[name])
    rest = {n: kept for n, kept in counts_of(ticket).items() if n != name}
    total = sum(encoder.weights[n].numel() for n in rest)
    assert sum(rest.values()) == keep_count(total, 0.7)
    assert min(kept / encoder.weights[n].numel() for n, kept in rest.items()) > 0.019


def test_a_ticket_below_the_dense_model_is_said_to_have_learnt_the_text() -> None:
    losses = {"dense": 3.0, "magnitude": 7.0, "ticket": 2.8}
    line = gap_closed(losses, dict.fromkeys(losses, 0.1)) or ""
    assert "below that of the dense model: the mask has learnt the text" in line
    assert "%" not in line
    assert "closes 75%" in (gap_closed(losses | {"ticket": 4.0}, {}) or "")


def test_the_gap_is_that_of_the_better_baseline() -> None:
    losses = {"dense": 3.0, "random": 5.0, "magnitude": 7.0, "ticket": 4.0}
    line = "The ticket closes 50% of the gap from random to dense; here a random mask is better"
    assert (gap_closed(losses, {}) or "").startswith(line)


@pytest.mark.parametrize("seed", range(4))
def test_of_many_weights_a_sample_says_where_to_look(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample is far smaller than the matrices, and in part misleads."""
    monkeypatch.setattr(global_ranking, "_SAMPLE", 50)
    generator = torch.Generator().manual_seed(seed)
    sizes = (3000, 40, 700)
    importance = {
        f"m{i}": torch.rand(n, generator=generator) ** (1 + 3 * i) * 10.0 ** (i * seed)
        for i, n in enumerate(sizes)
    }
    for sparsity in (0.0, 0.5, 0.9, 0.97):
        request = request_of(importance, sparsity, 0.02, frozenset())
        assert ALLOCATIONS["global"].keep(request) == plain(importance, sparsity, 0.02)
