"""Lines, sentences and documents as rows: what is measured, trained, told and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from sentence_models import sentence_model
from small_search import bits, interrupted, small_config
from torch import Tensor

from tamtctl.comparison.config import CompareConfig
from tamtctl.data.batches import evaluation_batches, training_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Rows
from tamtctl.data.units import UNITS
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import UsageError
from tamtctl.models.encoder import Encoder, maskable_matrices
from tamtctl.models.usual_rows import usual_rows
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.derived import derived_config
from tamtctl.pruning.objectives import TERMS, Term
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss, held_out_losses
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.objectives.outputs import Outputs, all_tokens
from tamtctl.pruning.searching.api import plan_search, search, search_folder
from tamtctl.ticket.measured import Measured
from tamtctl.ticket.ticket import Ticket

FAMILIES = [
    "bert", "roberta", "mpnet", "distilbert", "albert", "deberta-v2", "electra", "modernbert",
]  # fmt: skip
ROWS = [name for name, unit in UNITS.items() if not unit.is_packed]
POOLING = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file of lines of very different lengths, each a document."""
    random = np.random.default_rng(0)
    texts = (" ".join(random.choice(tiny.WORDS, size)) for size in random.integers(1, 30, 300))
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    return tmp_path / "lines.txt"


def rows_of(tokenizer: Any) -> Rows:
    lengths = np.array([14, 1, 9, 3, 26, 7, 5, 12, 2, 20, 8, 6, 11, 4, 17, 10])
    stream = np.random.default_rng(1).integers(5, len(tiny.VOCABULARY), lengths.sum())
    return Rows.of(stream, np.cumsum(lengths), 24, tokenizer)


def objective_of(family: str) -> Objective:
    model = tiny.build(family, pad_token_id=0)
    encoder = Encoder("tiny", None, model, tiny.tokenizer(), maskable_matrices(model), {})
    dense = {name: p.detach().clone() for name, p in encoder.matrices.items()}
    objective = Objective(encoder, "mlm+kd", dense)
    with torch.no_grad():
        for parameter in encoder.matrices.values():
            kept = torch.rand(parameter.shape, generator=torch.manual_seed(0)) < 0.6
            parameter.mul_(kept)
    return objective


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_a_row_does_not_depend_on_its_batch(family: str) -> None:
    objective, tokenizer = objective_of(family), tiny.tokenizer()
    some, noise = rows_of(tokenizer), Noise.of(tokenizer)
    compute = Compute.choose("cpu", "fp32")

    def losses(batch_size: int) -> dict[str, HeldOutLoss]:
        batches = evaluation_batches(some, batch_size, noise=noise)
        return held_out_losses(objective, batches, compute.autocast, compute.device)

    alone, together = losses(1), losses(16)
    for term in ("mlm", "kd"):
        assert alone[term].counts.tolist() == together[term].counts.tolist()
        np.testing.assert_allclose(alone[term].sums, together[term].sums, rtol=1e-4, atol=1e-5)
    assert alone["kd"].counts.sum() == some.lengths.sum()


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_it_is_that_of_the_row_without_any_mask(family: str) -> None:
    objective, tokenizer = objective_of(family), tiny.tokenizer()
    some, noise = rows_of(tokenizer), Noise.of(tokenizer)
    model = objective._model
    for batch in evaluation_batches(some, 1, noise=noise):
        with torch.no_grad():
            logits = model(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.masked]
            own = objective.terms(batch)["mlm"]
        expected = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_micro_batches_are_those_of_the_batch() -> None:
    objective, tokenizer = objective_of("roberta"), tiny.tokenizer()
    batch = next(training_batches(rows_of(tokenizer), 6, 1, noise=Noise.of(tokenizer)))
    found = []
    for size in (6, 4, 1):
        for parameter in objective._model.parameters():
            parameter.grad = None
        for part in batch.split(size):
            sum(loss.sum() for loss in objective.terms(part).values()).backward()  # type: ignore[union-attr]
        found.append([p.grad for p in objective._model.parameters() if p.grad is not None])
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-3, atol=1e-5)


def of_all_tokens(outputs: Outputs, batch: Any) -> Tensor:
    return outputs.states[-1].square().mean(-1).flatten()


def of_tokens(outputs: Outputs, batch: Any) -> Tensor:
    return batch.at_tokens(of_all_tokens(outputs, batch))  # type: ignore[no-any-return]


WRONG_TERMS: dict[str, tuple[Callable[[Any], Tensor], Callable[[Any, Any], Tensor], str]] = {
    "padding": (all_tokens, of_all_tokens, "padding is no target: leave it out"),
    "one a row": (
        all_tokens,
        lambda outputs, batch: outputs.states[-1].mean((1, 2)),
        "the term 'toy' has 4 losses for [0-9]+ targets",
    ),
    "other rows": (
        lambda batch: all_tokens(batch) + 1,
        of_tokens,
        "blocks of the term 'toy' must give int64 numbers of rows, from 0 to 3",
    ),
    "no gradient": (
        all_tokens,
        lambda outputs, batch: of_tokens(outputs, batch).detach(),
        "the losses of the term 'toy' have no gradient",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_TERMS)
def test_a_term_whose_losses_are_not_of_its_targets_is_refused(wrong: str) -> None:
    blocks, loss, message = WRONG_TERMS[wrong]
    toy = Term(
        name="toy", code=SimpleNamespace(blocks=blocks, loss=loss), label="toy", unit="squares",
        short_unit="sq", axis="toy", needs_states=True,
    )  # fmt: skip
    model = tiny.build("bert")
    encoder = Encoder("tiny", None, model, tiny.tokenizer(), maskable_matrices(model), {})
    with TERMS.holding(toy):
        objective = Objective(encoder, "toy", dict(encoder.matrices))
        batch = next(evaluation_batches(rows_of(tiny.tokenizer()), 4, noise=None))
        with pytest.raises(UsageError, match=message):
            objective.terms(batch)


def test_a_search_by_lines_is_told_remembered_and_measured(
    run: Run, tiny_model: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = small_config(tiny_model, lines, rows="lines", objective="mlm+kd")
    plan = plan_search(config)
    assert plan.train_sequences is not None
    there = plan.train_sequences.count + plan.held_out_sequences.count
    assert there == 300
    assert plan.train_sequences.rows == "lines"
    assert 3 < plan.train_sequences.mean_length < 16
    assert plan.train_sequences.cut > 0.1  # at 16 tokens
    result = search(config)
    assert (result.rows, result.sequences) == ("lines", 8)
    assert " lines of at most 16 tokens of " in str(result.text)
    ticket = Ticket.load(result.ticket)
    assert ticket.search["rows"] == "lines"
    assert "8 of " in str(text := Measured.of(ticket).text)
    assert " lines of at most 16 tokens of lines.txt" in str(text)
    told = json.loads(run("evaluate", result.ticket, "--corpus", lines, "--json").out)
    assert told["rows"] == "lines"
    assert told["mean_length"] == pytest.approx(plan.held_out_sequences.mean_length)
    blocks = run("evaluate", result.ticket, "--corpus", lines, "--rows", "blocks", "--json")
    packed = json.loads(blocks.out)
    assert packed["rows"] == "blocks"
    assert packed["score"] != told["score"]
    done = run("search", "--dry-run", *_options(tiny_model, lines, "lines"))
    plan_lines = done.out + done.err
    assert f"{plan.train_sequences}" in plan_lines
    assert "4 lines of at most 16 tokens" in plan_lines


def _options(model: Path, text: Path, rows: str) -> list[object]:
    return [
        "--model", model, "--corpus", text, "--rows", rows, "--sparsity", 0.7, "--steps", 3,
        "--batch-size", 4, "--sequence-length", 16, "--device", "cpu",
    ]  # fmt: skip


@pytest.mark.parametrize("rows", ROWS)
def test_an_interrupted_search_goes_on_with_the_same_bits(
    rows: str, tiny_model: Path, lines: Path, tmp_path: Path
) -> None:
    config = small_config(tiny_model, lines, rows=rows, checkpoint_every=4)
    whole = search(config, output_dir=tmp_path / "whole")
    interrupted(config, tmp_path / "part", 17)
    part = search(config, output_dir=tmp_path / "part")
    assert part.resumed_from
    assert bits(whole.ticket) == bits(part.ticket)


def test_tickets_of_different_rows_are_measured_on_both(
    run: Run, tiny_model: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [search(small_config(tiny_model, lines, rows=r)).ticket for r in ("lines", "blocks")]
    found = json.loads(run("compare", *names, "--blocks", 8, "--json").out)
    by_rows = {text["rows"]: text for text in found["texts"]}
    assert by_rows.keys() == {"lines", "blocks"}
    assert by_rows["lines"]["name"] != by_rows["blocks"]["name"]
    assert len(by_rows["lines"]["trained_on"]) == len(by_rows["blocks"]["trained_on"]) == 1
    assert len([one for one in found["units"] if one.startswith("mlm")]) == 2
    dense = next(one for one in found["results"] if one["method"] == "dense")
    losses = {value for key, value in dense.items() if key.startswith("mlm") and "loss" in key}
    assert len(losses) == 2  # the same model reads lines and blocks differently


def test_blocks_have_the_name_that_they_had(tiny_model: Path, lines: Path) -> None:
    config = small_config(tiny_model, lines)
    assert config.hash == small_config(tiny_model, lines, rows="blocks").hash
    assert config.hash != small_config(tiny_model, lines, rows="lines").hash
    assert "rows" not in config.to_dict()


def test_a_sentence_encoder_gets_sentences(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = sentence_model(tmp_path / "model", POOLING)
    assert usual_rows(str(model)) == "sentences"
    assert usual_rows("nano") == "blocks"
    config = small_config(model, lines, objective="kd")
    result = search(config)
    assert result.rows == "sentences"
    assert Ticket.load(result.ticket).search["rows"] == "sentences"
    assert "splitter of sentences" in json.loads((result.run_folder / "identity.json").read_text())
    # What was found on blocks, which was the default once, is another search.
    packed = small_config(model, lines, objective="kd", rows="blocks")
    assert search_folder(packed) != search_folder(config) == result.run_folder
    assert search_folder(config) == search_folder(
        small_config(model, lines, objective="kd", rows="sentences")
    )


@pytest.mark.parametrize("rows", UNITS)
def test_what_is_derived_from_kept_scores_has_their_rows(
    rows: str, lines: Path, tmp_path: Path
) -> None:
    # Of a sentence encoder, whose run may be of a time when there were blocks alone.
    model = sentence_model(tmp_path / "model", POOLING)
    config = small_config(model, lines, objective="kd", rows=rows)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert derived_config(tmp_path, 0.5).rows == rows


def test_a_recipe_file_says_the_rows(tiny_model: Path, lines: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('rows = "sentences"\n')
    file = str(tmp_path / "recipe.toml")
    made: dict[str, Any] = {"sparsity": 0.5, "model": str(tiny_model), "corpus": (str(lines),)}
    assert SearchConfig.from_recipe(file, **made).rows == "sentences"
    assert CompareConfig(recipe=file, sparsities=(0.5,)).defaults().rows == "sentences"
    told = CompareConfig(recipe=file, sparsities=(0.5,), rows="lines")
    assert told.defaults().rows == "lines"
