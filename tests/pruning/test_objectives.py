"""The shelf of terms: every row keeps its promises, and one more row is known to every command."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command_line import Run
from small_search import RECIPE
from torch import Tensor

from tamtctl.comparison.measures import axis
from tamtctl.data.batch import Batch
from tamtctl.foundations.errors import UsageError
from tamtctl.models.encoder import Encoder, maskable_matrices
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.pruning.objectives import TERMS, Term, objectives, terms_of
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.objectives.outputs import Outputs, all_tokens

TOY = Term(
    name="toy",
    code=__name__,
    label="toy distance",
    unit="squares",
    short_unit="sq",
    axis="squared distance to the dense model",
    needs_teacher=True,
    is_distance=True,
)
blocks = all_tokens


def loss(outputs: Outputs, batch: Batch) -> Tensor:
    pairs = zip(outputs.states, outputs.teacher, strict=True)
    return torch.stack([(s - t).square().mean(-1) for s, t in pairs]).mean(0).flatten()


@pytest.fixture
def toy() -> Iterator[Term]:
    with TERMS.holding(TOY) as row:
        yield row


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (torch.ones(()), r"the term 'toy' gives losses of shape \["),
        (torch.ones(24, 1), r"the term 'toy' gives losses of shape \["),
        (None, "loss of 'toy' gives NoneType, not Tensor"),
    ],
    ids=["a mean", "a column", "nothing"],
)
def test_a_term_gives_a_loss_for_each_target(given: Any, line: str) -> None:
    """A mean is what is easily returned by mistake."""

    class Code:
        blocks = staticmethod(all_tokens)

        def loss(self, outputs: Outputs, batch: Batch) -> Any:
            return given

    model = tiny.build("bert")
    encoder = Encoder("tiny", None, model, tiny.tokenizer(), maskable_matrices(model), {})
    dense = {name: p.detach().clone() for name, p in encoder.matrices.items()}
    with TERMS.holding(replace(TOY, code=Code())):
        objective = Objective(encoder, "toy", dense, pooling=SentencePipeline())
        with pytest.raises(UsageError, match=line):
            objective.terms(a_batch())


def a_batch() -> Batch:
    ids = torch.arange(5, 5 + 3 * 8).view(3, 8) % len(tiny.VOCABULARY)
    masked = torch.tensor([1, 2, 9, 20])
    return Batch(ids, masked, ids.flatten()[masked])


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
@pytest.mark.parametrize("term", [*TERMS.values(), TOY], ids=lambda term: term.name)
def test_every_row_keeps_its_promises(term: Term, family: str) -> None:
    assert term.label
    assert term.unit
    assert term.short_unit
    assert term.axis
    if term is not TOY:
        text = importlib.import_module(str(term.code)).__doc__ or ""
        assert re.search(r"\(.+ et al\., \d{4}", text), "the source"
        assert "\nRelations: " in text
    model = tiny.build(family).double()
    encoder = Encoder("tiny", None, model, tiny.tokenizer(), maskable_matrices(model), {})
    dense = {name: p.detach().clone() for name, p in encoder.matrices.items()}
    with TERMS.holding(TOY) if term is TOY else pytest.MonkeyPatch.context():
        objective = Objective(encoder, term.name, dense, pooling=SentencePipeline())
        batch = a_batch()
        (of_dense,) = objective.terms(batch).values()
        (where,) = objective.blocks(batch).values()
        assert of_dense.shape == where.shape
        assert set(where.tolist()) <= {0, 1, 2}
        assert sorted(where.tolist()) == where.tolist()
        if term.is_distance:
            assert of_dense.abs().max() < 1e-12
        for name, parameter in encoder.matrices.items():
            parameter.data = dense[name] * (torch.rand(dense[name].shape) < 0.5)
        (of_masked,) = objective.terms(batch).values()
        assert of_masked.isfinite().all()
        assert bool(objective.head) == term.needs_head
        of_masked.mean().backward()
        assert any(p.grad is not None and p.grad.any() for p in encoder.matrices.values())


def test_units_of_terms_and_sums() -> None:
    terms = ("mlm", "kd", "embedding", "similarity")
    assert objectives()[:4] == terms
    assert set(objectives()[4:]) == {
        "+".join(some) for size in (2, 3, 4) for some in itertools.combinations(terms, size)
    }
    units = {name: (terms_of(name).unit, terms_of(name).short_unit) for name in objectives()}
    assert units["mlm"] == ("nats per masked token", "nats")
    assert units["kd"] == ("1 − cosine", "1−cos")
    assert units["mlm+kd"] == ("nats + (1 − cosine)", "nats+(1−cos)")
    assert units["kd+embedding"] == (
        "(1 − cosine) + (1 − cosine of embeddings)",
        "(1−cos)+(1−cos emb.)",
    )
    assert terms_of("mlm").written("1.5") == "1.5 nats per masked token"
    assert terms_of("kd").written("0.1") == "0.1 (1 − cosine)"
    with pytest.raises(
        UsageError, match="there is no term of an objective 'kl', only mlm, kd, emb"
    ):
        terms_of("mlm+kl")


def test_one_more_row_is_known_to_every_command(
    toy: Term, tiny_model: Path, text_file: Path, tmp_path: Path, working_folder: None, run: Run
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    at = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu"]
    found = run(
        *"search --sparsity 0.7 --recipe tiny.toml --steps 8 --objective toy --json".split(), *at
    )
    assert found.code == 0, found.err
    result = json.loads(found.out)
    assert (result["objective"], result["unit"]) == ("toy", "squares")
    assert result["losses"]["dense"] == 0
    assert "Held-out toy loss at sparsity" in found.err
    assert re.search(r"loss \d\.\d+ squares ", found.err)

    scored = run("evaluate", result["ticket"], "--task", "toy", "--json", *at[2:])
    assert scored.code == 0, scored.err
    score = json.loads(scored.out)
    assert score["unit"] == "squares"
    assert score["head"] is None
    both = run("evaluate", result["ticket"], "--task", "mlm+toy", "--json", *at[2:])
    assert json.loads(both.out)["units"] == {
        "mlm": "nats per masked token", "toy": "squares", "mlm+toy": "nats + sq",
    }  # fmt: skip
    listed = run("list")
    assert re.search(r"\d\.\d+ sq", listed.out)
    assert "sq: squares" in " ".join(listed.err.split())

    sweep = "compare --sparsity 0.7 --recipe tiny.toml --blocks 16 --json".split()
    done = run(*sweep, "--methods", "tamt-toy,tamt-mlm+toy,imp,magnitude", "--at-steps", 4, *at)
    assert done.code == 0, done.err
    compared = json.loads(done.out)
    assert compared["units"]["toy"] == "squares"
    rows = {row["name"].removesuffix(" seed 1"): row["toy_loss"] for row in compared["results"]}
    assert rows["dense"] == 0
    told = [line for line in compared["sentences"] if "in toy distance" in line]
    claims = [re.match(r"(\S+) beats (\S+) at 0.7 in toy distance by \S+ squares", s) for s in told]
    pairs = [claim.groups() for claim in claims if claim]
    assert pairs, compared["sentences"]
    for better, worse in pairs:
        assert rows[better] < rows[worse]
    assert any("toy distance that IMP has after" in line for line in compared["sentences"])
    folder = Path(compared["folder"])
    assert "toy distance (squares)" in (folder / "report.md").read_text()
    assert "TAMT-MLM+TOY" in (folder / "report.md").read_text()
    assert axis("toy") == "squared distance to the dense model (squares)"


def test_it_is_unknown_again_when_it_has_left(run: Run) -> None:
    done = run(*"search --sparsity 0.7 --objective toy".split())
    assert done.code == 2
    known = ", ".join(objectives())
    assert done.err == f"error: --objective must be one of {known}, got 'toy'\n"
    assert TOY.name not in sys.modules
