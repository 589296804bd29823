"""The shelf of patterns: every row keeps its promises, and every command knows one row more."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command_line import Run
from small_search import RECIPE
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.models.encoder import maskable_matrices
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import CRITERIA
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.one_shot import keep_counts, ranked
from tamtctl.pruning.patterns import PATTERNS, UNSTRUCTURED, Pattern
from tamtctl.pruning.trained.folded_structures import folded
from tamtctl.pruning.trained.initial_scores import Start, scores_in_nats
from tamtctl.ticket.ticket import Ticket


class Pairs:
    """Of every two neighbours in a row one is kept."""

    def keep(self, shapes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, int]:
        assert sparsity == 0.5
        return {name: rows * columns // 2 for name, (rows, columns) in shapes.items()}

    def select(
        self, scores: Mapping[str, Tensor], keep: Mapping[str, int], ties: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        masks = {}
        for name in keep:
            first, second = scores[name].unflatten(-1, (-1, 2)).unbind(-1)
            is_first = first > second
            if name in ties:
                a, b = ties[name].unflatten(-1, (-1, 2)).unbind(-1)
                is_first |= (first == second) & (a >= b)
            masks[name] = torch.stack([is_first, ~is_first], -1).flatten(-2)
        return masks


PAIRS = Pattern(name="1:2", code=Pairs(), sparsity=0.5)


WRONG: dict[str, Callable[[Tensor], Any]] = {
    "torch.float32 of [2, 4] with 4 kept": Tensor.float,
    "torch.bool of [8] with 4 kept": Tensor.flatten,
    "torch.bool of [2, 4] with 8 kept": torch.ones_like,
    "none": lambda mask: None,
}


@pytest.mark.parametrize("said", WRONG)
def test_masks_that_are_not_what_was_asked_for_are_refused(said: str) -> None:
    class Code(Pairs):
        def select(self, *given: Any) -> Any:
            return {name: WRONG[said](mask) for name, mask in super().select(*given).items()}

    row = replace(PAIRS, code=Code())
    with pytest.raises(UsageError, match=re.escape(f"pattern '1:2' gives a {said} for a mask")):
        row.select({"a": torch.arange(8.0).view(2, 4)}, {"a": 4})


def test_a_pattern_cannot_change_the_scores() -> None:
    class Code(Pairs):
        def select(self, scores: Any, keep: Any, ties: Any) -> Any:
            masks = super().select(scores, keep, ties)
            for values in (*scores.values(), *ties.values()):
                values.numpy().fill(0)
            return masks

    scores, ties = {"a": torch.arange(8.0).view(2, 4)}, {"a": torch.ones(2, 4)}
    masks = replace(PAIRS, code=Code()).select(scores, {"a": 4}, ties)
    assert masks["a"].tolist() == [[False, True, False, True]] * 2
    assert torch.equal(scores["a"], torch.arange(8.0).view(2, 4))
    assert torch.equal(ties["a"], torch.ones(2, 4))


def test_a_pattern_keeps_a_whole_number_of_weights() -> None:
    class Code(Pairs):
        def keep(self, shapes: Any, sparsity: float) -> Any:
            return {name: rows * columns / 2 for name, (rows, columns) in shapes.items()}

    with pytest.raises(UsageError, match=r"pattern '1:2' keeps 4\.0 weights of a"):
        replace(PAIRS, code=Code()).keep({"a": (2, 4)}, 0.5)


@pytest.mark.parametrize("function", ["keep", "select"])
def test_a_pattern_that_gives_nothing_names_itself(function: str) -> None:
    row = replace(PAIRS, code=type("Code", (Pairs,), {function: lambda self, *given: None})())
    calls: dict[str, Callable[[], object]] = {
        "keep": lambda: row.keep({"a": (2, 4)}, 0.5),
        "select": lambda: row.select({"a": torch.arange(8.0).view(2, 4)}, {"a": 4}),
    }
    with pytest.raises(UsageError, match=f"{function} of '1:2' gives NoneType, not Mapping"):
        calls[function]()


def is_of_pairs(mask: Tensor) -> bool:
    return bool((mask.unflatten(-1, (-1, 2)).sum(-1) == 1).all())


@pytest.fixture
def pairs() -> Iterator[Pattern]:
    with PATTERNS.holding(PAIRS) as row:
        yield row


@pytest.mark.parametrize("row", [*PATTERNS.values(), PAIRS], ids=lambda row: row.name)
@pytest.mark.parametrize("criterion", [n for n, row in CRITERIA.items() if not row.needs_text])
def test_every_row_keeps_its_promises(row: Pattern, criterion: str) -> None:
    """With every criterion; a training keeps the mask that it starts at until a score has moved."""
    if row is not PAIRS:
        text = importlib.import_module(str(row.code)).__doc__ or ""
        assert re.search(r"\(.+ et al\., \d{4}", text), "the source"
        assert "\nRelations: " in text
    weights = {name: p.detach() for name, p in maskable_matrices(tiny.build("bert")).items()}
    weights = {n: w for n, w in weights.items() if row.is_of_words or "embeddings" not in n}
    with PATTERNS.holding(row) if row is PAIRS else pytest.MonkeyPatch.context():
        for sparsity in [row.sparsity] if row.sparsity else [0.0, 0.5, 0.93]:
            assert row.has(sparsity)
            keep = keep_counts(weights, sparsity, row.name)
            ranking = ranked(criterion, Context(weights=weights), weights)
            weights = {name: weights[name] for name in keep}
            masks = ranking.masks(keep, row.name)
            assert {name: int(mask.sum()) for name, mask in masks.items()} == keep
            nats = scores_in_nats(ranking, masks, keep, weights, row.name)
            for start in (Start(masks, keep), Start(masks, keep, nats)):
                parameters = {n: torch.nn.Parameter(w.clone()) for n, w in weights.items()}
                training = folded(parameters, start, pattern=row.name)
                assert all(torch.equal(training.masks[name], mask) for name, mask in masks.items())
                for name, parameter in parameters.items():
                    assert torch.equal(parameter, weights[name] * masks[name])


def test_the_default_names_no_run() -> None:
    values: dict[str, Any] = {"sparsity": 0.5, "model": "nano", "corpus": ("t",), "steps": 1}
    config = SearchConfig.from_recipe("nano", **values)
    assert config.pattern == UNSTRUCTURED
    assert "pattern" not in config.to_dict()


def test_what_a_pattern_cannot_be_is_refused(pairs: Pattern) -> None:
    with pytest.raises(UsageError, match=r"--pattern 1:2 has the sparsity 0\.5 alone; give"):
        SearchConfig.from_recipe("nano", sparsity=0.7, pattern="1:2")
    with pytest.raises(UsageError, match="--method imp cuts to several sparsities, and"):
        SearchConfig.from_recipe("nano", sparsity=0.5, pattern="1:2", method="imp")
    assert (
        SearchConfig.from_recipe("nano", sparsity=0.5, pattern="1:2").to_dict()["pattern"] == "1:2"
    )
    with pytest.raises(UsageError, match="--pattern 1:2 keeps the same share of every matrix"):
        SearchConfig.from_recipe("nano", sparsity=0.5, pattern="1:2", allocation="global")
    with pytest.raises(
        UsageError, match=r"--pattern must be one of unstructured, .*1:2, got '2,1'"
    ):
        SearchConfig.from_recipe("nano", sparsity=0.5, pattern="2,1")


def test_one_more_row_is_known_to_every_command(
    pairs: Pattern, tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    at = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu"]
    options = "search --sparsity 0.5 --pattern 1:2 --recipe tiny.toml --steps 8 --json".split()
    found = run(*options, *at)
    assert found.code == 0, found.err
    assert "sparsity 0.5 in each, 1:2" in found.err
    result = json.loads(found.out)
    assert result["flips"] > 0
    ticket = Ticket.load(Path(result["ticket"]))
    assert ticket.search["pattern"] == "1:2"
    assert all(is_of_pairs(ticket.mask(name)) for name in ticket.parameters)

    scored = run("evaluate", result["ticket"], "--task", "mlm", "--json", *at[2:])
    assert scored.code == 0, scored.err

    sweep = "compare --sparsity 0.5 --pattern 1:2 --recipe tiny.toml --blocks 16 --json".split()
    refused = run(*sweep, *at)
    assert refused.code == 2
    assert "--method imp cuts to several sparsities" in refused.err
    done = run(*sweep, "--methods", "tamt-mlm,magnitude,random", *at)
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(done.out)["results"]}
    for path in Path("runs").glob("search-*-tamt-mlm-*/ticket"):
        masks = [Ticket.load(path).mask(name) for name in ticket.parameters]
        assert all(map(is_of_pairs, masks))
    given = run("compare", result["ticket"], "--device", "cpu", "--blocks", "8", "--json")
    assert given.code == 0, given.err
    beside = json.loads(given.out)["results"]
    assert {row["among"] for row in beside if row["method"] != "dense"} == {"1:2"}
    # What is made on the spot is of the pattern, too.
    plain = run(*"compare --sparsity 0.5 --recipe tiny.toml --blocks 16 --json".split(), *at,
                "--methods", "magnitude")  # fmt: skip
    (other,) = (r for r in json.loads(plain.out)["results"] if r["name"] == "magnitude")
    assert rows["magnitude"]["mlm_loss"] != other["mlm_loss"]
