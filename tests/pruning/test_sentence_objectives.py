"""Objectives of sentence encoders: the loss by another way, its gradient, who may ask for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from sentence_models import dense_layer, sentence_model
from small_search import RECIPE, small_config
from torch import Tensor
from torch.func import functional_call

from tamtctl.data.batch import Batch, clean
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import CorpusError, ModelError, UsageError
from tamtctl.foundations.watching import Silent
from tamtctl.models.encoder import Encoder
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives.held_out_loss import held_out_losses
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.searching.run import PreparedSearch
from tamtctl.pruning.trained.mask_training import MaskTraining
from tamtctl.training.run_folder import RunFolder

LENGTHS = np.array([8, 5, 3, 6])
ROWS = np.random.default_rng(3).integers(5, len(tiny.VOCABULARY), (4, 8))


@pytest.fixture(scope="module")
def projecting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes the mean, projects it and normalises it."""
    folder = tmp_path_factory.mktemp("models") / "projecting"
    pooling = {"pooling_mode_mean_tokens": True}
    model = sentence_model(folder, pooling, modules=("Dense", "Normalize"))
    dense_layer(model / "2_Dense")
    return model


@pytest.fixture
def encoder(projecting: Path) -> Encoder:
    encoder = load_encoder(str(projecting), with_head=False)
    encoder.model.double()
    return encoder


def weights_of(encoder: Encoder) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in encoder.matrices.items()}


def halved(dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {n: w * (torch.rand(w.shape, generator=generator) < 0.5) for n, w in dense.items()}


def put(encoder: Encoder, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in encoder.matrices.items():
        parameter.data = weights[name].clone()


def embedded(
    encoder: Encoder, weights: Mapping[str, Tensor], rows: list[list[int]], layer: torch.nn.Linear
) -> Tensor:
    """Embed each row by itself, with nothing padded, by the words of the model's files."""
    found = []
    for row in rows:
        output = functional_call(
            encoder.model, dict(weights), (torch.tensor([row]),), {"return_dict": True}
        )
        projected = torch.tanh(layer.double()(output.last_hidden_state[0].mean(0)))
        found.append(projected / projected.norm())
    return torch.stack(found)  # (B, D)


def of_rows_alone(
    encoder: Encoder, masked: Mapping[str, Tensor], dense: Mapping[str, Tensor], folder: Path
) -> tuple[Tensor, Tensor]:
    """Embed each of the `ROWS` by itself with the masked weights, and with the dense ones."""
    layer = dense_layer(folder / "another")
    rows = [list(map(int, row[:n])) for row, n in zip(ROWS, LENGTHS, strict=True)]
    student = embedded(encoder, masked, rows, layer)
    with torch.no_grad():
        return student, embedded(encoder, dense, rows, layer)


def check_gradients(encoder: Encoder, leaves: Mapping[str, Tensor]) -> None:
    for name, parameter in encoder.matrices.items():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, atol=1e-9, rtol=0, msg=name)


def test_the_loss_and_its_gradient_are_those_of_rows_by_themselves(
    encoder: Encoder, tmp_path: Path
) -> None:
    dense = weights_of(encoder)
    leaves = {name: weight.requires_grad_() for name, weight in halved(dense).items()}
    student, teacher = of_rows_alone(encoder, leaves, dense, tmp_path)
    wanted = 1 - (student * teacher).sum(1)
    wanted.mean().backward()

    objective = Objective(encoder, "embedding", dense)
    put(encoder, halved(dense))
    batch = clean(ROWS, LENGTHS)
    (found,) = objective.terms(batch).values()
    assert torch.allclose(found, wanted, atol=1e-9)
    assert objective.blocks(batch)["embedding"].tolist() == [0, 1, 2, 3]
    found.mean().backward()
    check_gradients(encoder, leaves)


def test_similarities_are_those_of_rows_by_themselves(encoder: Encoder, tmp_path: Path) -> None:
    dense = weights_of(encoder)
    leaves = {name: weight.requires_grad_() for name, weight in halved(dense).items()}
    student, teacher = of_rows_alone(encoder, leaves, dense, tmp_path)
    wanted = torch.stack(
        [
            torch.stack(
                [(student[i] @ student[j] - teacher[i] @ teacher[j]).abs() for j in others]
            ).mean()
            for i in range(4)
            for others in [[j for j in range(4) if j != i]]
        ]
    )
    wanted.mean().backward()
    objective = Objective(encoder, "similarity", dense)
    put(encoder, halved(dense))
    batch = clean(ROWS, LENGTHS)
    (found,) = objective.terms(batch).values()
    assert torch.allclose(found, wanted, atol=1e-9)
    found.mean().backward()
    check_gradients(encoder, leaves)

    # The same in parts, each of which is told what the models make of the others.
    for parameter in encoder.matrices.values():
        parameter.grad = None
    parts = batch.split(3)
    made = [objective.embeddings(part) for part in parts]
    for part, others in zip(parts, reversed(made), strict=True):
        (in_part,) = objective.terms(part, others=others).values()
        (in_part.sum() / 4).backward()
    check_gradients(encoder, leaves)


def test_padding_and_the_rows_beside_it_do_not_count(encoder: Encoder) -> None:
    dense = weights_of(encoder)
    objective = Objective(encoder, "embedding", dense)
    put(encoder, halved(dense))
    (together,) = objective.terms(clean(ROWS, LENGTHS)).values()
    wider = np.concatenate([ROWS, np.full((4, 3), 7)], 1)
    attended = torch.from_numpy((np.arange(11) < LENGTHS[:, None]).astype(np.int64))
    (padded,) = objective.terms(replace(clean(wider), attention_mask=attended)).values()
    alone = [
        next(iter(objective.terms(clean(ROWS[[i], :n])).values()))
        for i, n in enumerate(LENGTHS.tolist())
    ]
    for other in (padded, torch.cat(alone)):
        assert torch.allclose(together, other, atol=1e-9)


def test_a_sum_with_terms_of_the_head_is_of_the_same_embeddings(tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "st", {"pooling_mode_cls_token": True})
    tiny.save(model, "bert", with_head=True)
    encoder = load_encoder(str(model), with_head=True)
    dense = weights_of(encoder)
    ids = torch.from_numpy(ROWS)
    masked = torch.tensor([1, 9, 20])
    batch = Batch(ids, masked, ids.flatten()[masked])
    alone = Objective(load_encoder(str(model), with_head=False), "embedding", dense)
    both = Objective(encoder, "mlm+kd+embedding", dense)
    for objective in (alone, both):
        for name, weight in halved(dense).items():
            objective._base.get_parameter(name).data = weight.clone()
    (wanted,) = alone.terms(batch).values()
    assert torch.allclose(both.terms(batch)["embedding"], wanted, atol=1e-5)


def test_a_model_that_does_not_say_how_it_pools_is_refused(
    tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    line = (
        f"embedding takes sentence embeddings, and model {str(tiny_model)!r} does not say how its "
        "tokens are pooled (it has no modules.json); save it with sentence-transformers, or take kd"
    )
    with pytest.raises(ModelError) as refused:
        Objective(load_encoder(str(tiny_model), with_head=False), "embedding", {})
    assert str(refused.value) == line
    at = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu"]
    done = run(*"search --sparsity 0.7 --recipe fast --objective embedding".split(), *at)
    assert (done.code, done.err.splitlines()[-1]) == (1, f"error: {line}")
    done = run(*"compare --sparsity 0.7 --sequence-length 16 --methods tamt-embedding".split(), *at)
    assert done.code == 2
    assert "--methods tamt-embedding needs sentence embeddings" in done.err


def test_by_default_a_sentence_encoder_is_trained_for_its_embeddings(
    projecting: Path, tiny_model: Path
) -> None:
    def objective(**told: Any) -> str:
        return SearchConfig.from_recipe("fast", sparsity=0.5, corpus=("c.txt",), **told).objective

    assert objective(model=str(projecting)) == "kd+embedding"
    assert objective(model=str(projecting), method="magnitude") == "kd+embedding"
    assert objective(model=str(projecting), objective="kd") == "kd"
    assert objective(model=str(tiny_model)) == "mlm"
    with pytest.raises(UsageError, match="imp trains on mlm"):
        objective(model=str(projecting), method="imp", objective="kd")
    with pytest.raises(UsageError, match="compares the rows of a batch with each other"):
        objective(model=str(projecting), objective="kd+similarity", batch_size=1)


def test_by_default_a_sentence_encoder_loses_more_of_its_embeddings(
    projecting: Path, tiny_model: Path
) -> None:
    def found(model: Path = projecting, **told: Any) -> SearchConfig:
        values: dict[str, Any] = {"sparsity": 0.6, "corpus": ("c.txt",)} | told
        return SearchConfig.from_recipe("fast", model=str(model), **values)

    def zeros(model: Path = projecting, **told: Any) -> tuple[str, float | None]:
        config = found(model, **told)
        return config.allocation, config.floor

    assert zeros() == zeros(method="wanda") == zeros(method="imp") == ("global", 0.28)
    assert zeros(sparsity=0.75) == ("global", 0.175)
    assert zeros(floor=0.1) == ("global", 0.1)
    assert zeros(allocation="by-type") == ("by-type", None)
    assert zeros(allocation="global") == ("global", None)
    uniform = ("uniform", None)
    assert zeros(allocation="uniform") == uniform
    assert zeros(tiny_model) == uniform
    assert zeros(init="a/ticket") == uniform
    assert zeros(pattern="neurons") == uniform
    assert zeros(pattern="neurons", sparsity=None, latency=0.8, learning_rate=0.03) == uniform
    assert found().init == "obs*fisher-kd"  # which the allocation computes anyway
    assert found(allocation="by-type").init == found(tiny_model).init == "obs"


def test_micro_batches_change_no_similarity(
    projecting: Path, text_file: Path, working_folder: None
) -> None:
    masks = []
    for micro in (None, 2):
        config = small_config(
            projecting,
            text_file,
            objective="similarity",
            rows="lines",
            batch_size=5,
            micro_batch_size=micro,
            steps=4,
            dropout=False,
        )
        search = PreparedSearch.prepare(config, RunFolder(Path(f"run-{micro}"), {}), Silent())
        search.training.run(lambda _: None)
        assert isinstance(search.training, MaskTraining)
        masks.append(search.training.folded.scores)
    for name, scores in masks[0].items():
        torch.testing.assert_close(scores, masks[1][name], atol=1e-5, rtol=0)


def test_a_row_with_nothing_beside_it_has_no_similarity(encoder: Encoder) -> None:
    encoder.model.float()
    dense = weights_of(encoder)
    objective = Objective(encoder, "similarity", dense)
    put(encoder, halved(dense))
    compute = Compute.choose("cpu", "fp32", 1)
    batches = [clean(ROWS, LENGTHS), clean(ROWS[:1])]
    found = held_out_losses(objective, batches, compute.autocast, compute.device)["similarity"]
    assert found.counts.tolist() == [4, 0]  # a batch is a unit: its rows move together
    with pytest.raises(CorpusError, match="compares rows of the held-out text, and it has but one"):
        held_out_losses(objective, batches[1:], compute.autocast, compute.device)


def test_a_text_of_one_row_is_refused_before_any_work(
    projecting: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    Path("one.txt").write_text("the list of names\n")
    options = "--sparsity 0.5 --recipe fast --objective similarity --steps 2 --output-dir run"
    at = ["--model", projecting, "--corpus", text_file, "--device", "cpu"]
    done = run("search", *options.split(), "--sequence-length", 16, *at, "--held-out", "one.txt")
    assert done.code == 1
    assert "similarity compares the rows of the held-out text with each other" in done.err
    assert "of one.txt there is but one; give more text" in done.err
    assert not Path("run").exists()


def test_every_command_knows_the_loss(
    projecting: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    at = ["--model", projecting, "--corpus", text_file, "--device", "cpu"]
    found = run(
        *"search --sparsity 0.7 --recipe tiny.toml --steps 8 --rows lines --json".split(), *at
    )
    assert found.code == 0, found.err
    result = json.loads(found.out)
    assert result["objective"] == "kd+embedding"
    assert result["losses"]["dense"] == 0
    scored = run("evaluate", result["ticket"], "--json", *at[2:])
    assert scored.code == 0, scored.err
    score = json.loads(scored.out)
    assert score["metrics"].keys() == {"kd", "embedding", "kd+embedding"}
    compared = run("compare", result["ticket"], "--json", *at[2:])
    assert compared.code == 0, compared.err
    rows = {row["name"]: row for row in json.loads(compared.out)["results"]}
    assert rows["dense"]["embedding_loss"] == rows["dense"]["similarity_loss"] == 0
    others = {name: row["embedding_loss"] for name, row in rows.items() if name != "dense"}
    assert all(loss > 0 for loss in others.values())
