from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command_line import Run
from masks import magnitude_masks, random_masks
from transformers import AutoModel

from tamtctl.foundations.errors import (
    CorpusError,
    ModelError,
    TamtctlError,
    TicketError,
    UsageError,
)
from tamtctl.foundations.masks import keep_count
from tamtctl.foundations.watching import StepReport
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import plan_search, search
from tamtctl.ticket.ticket import Ticket

TWO_VALUED = {"init": "magnitude", "init_scores": "two-valued"}  # a head trains along


def config(model: Path, text: Path, /, **changes: Any) -> SearchConfig:
    small: dict[str, Any] = {
        "sparsity": 0.7,
        "model": str(model),
        "corpus": (str(text),),
        "steps": 4,
        "batch_size": 4,
        "sequence_length": 16,
        "learning_rate": 5e-3,
        "calibration_tokens": 1024,
        "evaluation_blocks": 8,
        "device": "cpu",
    }
    return SearchConfig.from_recipe("nano", **(small | changes))


def same_masks(one: Ticket, other: Ticket) -> bool:
    return all(torch.equal(one.mask(name), other.mask(name)) for name in one.parameters)


def test_a_search_leaves_a_ticket_of_exact_sparsity(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    wanted = config(tiny_model, text_file, **TWO_VALUED)
    result = search(wanted, output_dir=tmp_path / "run")
    ticket = Ticket.from_pretrained(result.ticket)
    for name, entry in ticket.parameters.items():
        assert entry.kept == keep_count(entry.numel, 0.7) == int(ticket.mask(name).sum())
    named = {"model": tiny_model.name, "corpus": [text_file.name]}  # paths are its maker's alone
    assert ticket.search == wanted.to_dict() | named
    assert result.flips > 0
    assert list(result.losses) == ["dense", "random", "magnitude", "ticket"]
    assert ticket.metrics["losses"] == result.losses
    assert ticket.mlm_head
    # The checkpoint's weights were never written: the ticket still fits them.
    model = AutoModel.from_pretrained(tiny_model, dtype=torch.float32)
    assert len(ticket.apply(model).applied) == 13
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in metrics]
    assert lines[-1]["step"] == 4
    assert {"loss", "terms", "learning_rate", "flips", "tokens_per_second"} <= lines[-1].keys()


def test_same_seed_same_bits_other_seed_other_bits(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        wanted = config(tiny_model, text_file, seed=seed, **TWO_VALUED)
        search(wanted, output_dir=tmp_path / name)
    a, b, c = (Ticket.load(tmp_path / name / "ticket") for name in "abc")
    assert same_masks(a, b)
    assert a.mlm_head is not None
    assert b.mlm_head is not None
    assert all(torch.equal(a.mlm_head[n], b.mlm_head[n]) for n in a.mlm_head)
    assert not same_masks(a, c)


@pytest.mark.parametrize(
    ("family", "sparsity"), [*((family, 0.999) for family in tiny.FAMILIES), ("bert", 0.0)]
)
def test_every_family_and_objective(
    family: str, sparsity: float, text_file: Path, tmp_path: Path
) -> None:
    tiny.save(tmp_path / "mlm", family)
    tiny.save(tmp_path / "bare", family, with_head=False)
    for model, objective in (("mlm", "mlm+kd"), ("bare", "kd")):
        wanted = config(
            tmp_path / model, text_file, objective=objective, sparsity=sparsity, steps=2
        )
        result = search(wanted, output_dir=tmp_path / f"run-{model}")
        ticket = Ticket.load(result.ticket)
        for entry in ticket.parameters.values():
            assert entry.kept == keep_count(entry.numel, sparsity)
        ticket.apply(AutoModel.from_pretrained(tmp_path / model, dtype=torch.float32))
        if objective == "kd":
            assert result.losses["dense"] == 0
            if sparsity:
                assert result.losses["ticket"] > 0


def test_the_pooler_is_masked_by_magnitude(text_file: Path, tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "bare", "bert", with_head=False)
    wanted = config(model, text_file, objective="kd", init="random")
    ticket = Ticket.load(search(wanted, output_dir=tmp_path / "run").ticket)
    pooler = load_encoder(str(model), with_head=False).pooler
    (name,) = pooler
    assert torch.equal(ticket.mask(name), magnitude_masks(pooler, 0.7)[name])


def test_one_shot_methods_are_the_baselines(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    weights = load_encoder(str(tiny_model), with_head=False).weights
    for method, expected in (
        ("magnitude", magnitude_masks(weights, 0.7)),
        ("random", random_masks(weights, 0.7, 1)),
    ):
        wanted = config(tiny_model, text_file, method=method)
        result = search(wanted, output_dir=tmp_path / method)
        ticket = Ticket.load(result.ticket)
        assert all(torch.equal(ticket.mask(name), mask) for name, mask in expected.items())
        assert result.steps == 0
        assert result.losses["ticket"] == result.losses[method]


def test_a_search_may_start_from_a_ticket(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    first = search(config(tiny_model, text_file, seed=5), output_dir=tmp_path / "first")
    # With a learning rate that moves nothing, what it starts from is what it ends with.
    still = config(tiny_model, text_file, init=str(first.ticket), learning_rate=1e-12)
    again = search(still, output_dir=tmp_path / "again")
    assert same_masks(Ticket.load(first.ticket), Ticket.load(again.ticket))
    # However the masks are stored.
    weights = load_encoder(str(tiny_model), with_head=False).weights
    Ticket.load(first.ticket).encode("delta", weights).save_pretrained(tmp_path / "delta")
    delta = search(replace(still, init=str(tmp_path / "delta")), output_dir=tmp_path / "third")
    assert same_masks(Ticket.load(first.ticket), Ticket.load(delta.ticket))
    other = tiny.save(tmp_path / "other", "bert", hidden_size=24)
    with pytest.raises(TicketError, match="ticket of the same model"):
        search(replace(still, model=str(other)), output_dir=tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_finished_run_is_returned_at_once(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    wanted = config(tiny_model, text_file)
    first = search(wanted, output_dir=tmp_path / "run")
    written = (first.ticket / "ticket.json").stat().st_mtime_ns
    again = search(wanted, output_dir=tmp_path / "run")
    assert again == replace(first, already_done=True)
    assert list(again.losses) == list(first.losses) == [
        "dense", "random", "magnitude", "start", "ticket"
    ]  # fmt: skip
    assert (first.ticket / "ticket.json").stat().st_mtime_ns == written
    forced = search(wanted, output_dir=tmp_path / "run", force=True)
    assert not forced.already_done
    assert (first.ticket / "ticket.json").stat().st_mtime_ns > written
    with pytest.raises(UsageError, match="not empty"):
        search(replace(wanted, seed=3), output_dir=tmp_path / "run")
    (first.ticket / "mask.safetensors").unlink()
    with pytest.raises(TamtctlError, match=r"damaged.*--force"):
        search(wanted, output_dir=tmp_path / "run")
    assert search(wanted, output_dir=tmp_path / "run", force=True).losses == first.losses


def test_the_check_corpus_is_reported(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n".join(f"file number {i} of the type list" * 5 for i in range(300)))
    wanted = config(tiny_model, text_file, check_corpus=(str(other),))
    result = search(wanted, output_dir=tmp_path / "run")
    assert result.check_losses.keys() == result.losses.keys()
    assert result.check_losses != result.losses


def test_gradient_accumulation_and_bf16_run(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    whole = search(config(tiny_model, text_file), output_dir=tmp_path / "whole")
    parts = search(config(tiny_model, text_file, micro_batch_size=3), output_dir=tmp_path / "parts")
    assert parts.losses["ticket"] == pytest.approx(whole.losses["ticket"], abs=1e-3)
    half = search(config(tiny_model, text_file, precision="bf16"), output_dir=tmp_path / "bf16")
    assert half.losses["dense"] == pytest.approx(whole.losses["dense"], abs=0.1)


def test_low_memory_finds_almost_the_same(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    for objective in ("mlm", "kd"):
        wanted = config(tiny_model, text_file, objective=objective)
        saving = replace(wanted, low_memory=True)
        assert saving.hash != wanted.hash
        one = search(wanted, output_dir=tmp_path / objective)
        two = search(saving, output_dir=tmp_path / f"{objective}-low")
        assert one.losses["magnitude"] == two.losses["magnitude"]
        assert one.losses["ticket"] == pytest.approx(two.losses["ticket"], rel=1e-2)
        assert one.flips == pytest.approx(two.flips, rel=0.1)
        assert two.flips > 0


def test_compile_and_low_memory_are_for_tamt() -> None:
    settings: list[dict[str, Any]] = [{"compile": True}, {"low_memory": True}]
    for one in settings:
        with pytest.raises(UsageError, match="are for --method tamt"):
            SearchConfig.from_recipe("nano", sparsity=0.5, method="random", **one)


@pytest.mark.slow  # the compiler takes a minute
@pytest.mark.filterwarnings("ignore::Warning")  # the compiler looks into everything
@pytest.mark.parametrize("init_scores", ["two-valued", "nats"])
def test_a_compiled_search_finds_what_an_eager_one_does(
    init_scores: str, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    small = config(tiny_model, text_file, init_scores=init_scores)
    eager = search(small, output_dir=tmp_path / "eager")
    compiled = replace(small, compile=True)
    result = search(compiled, output_dir=tmp_path / "compiled")
    assert result.losses["ticket"] == pytest.approx(eager.losses["ticket"], abs=1e-3)


@pytest.mark.slow
def test_without_a_compiler_compile_is_refused(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    command = f"search --sparsity 0.7 --model {tiny_model} --corpus {text_file} --compile"
    done = subprocess.run(
        [sys.executable, "-m", "tamtctl", *command.split(), "--device", "cpu"],
        cwd=tmp_path,
        env=os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "--compile does not work here" in line
    assert not (tmp_path / "runs").exists()


def test_time_limit_stops_training(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    wanted = config(tiny_model, text_file, steps=100_000, max_minutes=0.01)
    result = search(wanted, output_dir=tmp_path / "run")
    assert 0 < result.steps < 100_000
    assert Ticket.load(result.ticket).metrics["steps"] == result.steps


def test_what_a_time_limit_cut_short_is_said(
    tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    told: list[object] = [*"search --recipe fast --sparsity 0.5 --steps 100000".split()]
    told += ["--model", tiny_model, "--corpus", text_file, "--sequence-length", "16"]
    told += ["--batch-size", "2", "--device", "cpu", "--max-minutes", "0.01"]
    for _ in range(2):  # also when it was done before
        done = run(*told)
        assert done.code == 0, done.err
        assert re.search(r"Ended after \d+ of 100,000 steps, as --max-minutes asks; the", done.out)
    assert "Ended after" not in run(*told[:6], "3", *told[7:]).out


def test_a_loss_that_is_no_number_stops_with_the_step(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    wanted = config(tiny_model, text_file, learning_rate=1e30, **TWO_VALUED)
    with pytest.raises(TamtctlError, match=r"mlm loss became nan at step \d+"):
        search(wanted, output_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "ticket").exists()


def test_a_plan_writes_nothing(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    plan = plan_search(config(tiny_model, text_file), output_dir=tmp_path / "run")
    assert (plan.matrices, plan.steps) == (13, 4)
    assert plan.estimated_seconds > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sequence_length": 41}, UsageError, "can take; give at most 40"),
        ({"model": "no/such"}, ModelError, "neither a folder nor reachable"),
        ({"corpus": ("nowhere.txt",)}, CorpusError, "nowhere.txt"),
        ({"init": "nowhere"}, TicketError, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    changes: dict[str, Any],
    error: type[TamtctlError],
    message: str,
    tiny_model: Path,
    text_file: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        search(config(tiny_model, text_file, **changes), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_watcher_sees_plan_and_steps(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    seen: list[object] = []

    class Notes:
        status = note = plan = progress = staticmethod(seen.append)

    search(config(tiny_model, text_file), output_dir=tmp_path / "run", watcher=Notes())
    (report,) = (item for item in seen if isinstance(item, StepReport))
    assert report.step == report.steps == 4


# One objective is enough for every day; that both train is shown by tiny models.
@pytest.mark.parametrize("objective", ["mlm", pytest.param("kd", marks=pytest.mark.slow)])
def test_the_claim_holds_on_nano_in_a_short_form(objective: str, tmp_path: Path) -> None:
    # From the magnitude mask, so that training alone has to make the difference.
    wanted = SearchConfig.from_recipe(
        "nano",
        sparsity=0.8,
        objective=objective,
        init="magnitude",
        init_scores="two-valued",
        steps=24,
        batch_size=8,
        learning_rate=3e-3,
        evaluation_blocks=32,
        device="cpu",
    )
    result = search(wanted, output_dir=tmp_path / "run")
    losses, error = result.losses, result.standard_errors["ticket"]
    assert error is not None
    assert losses["ticket"] + 3 * error < min(losses["magnitude"], losses["random"])
    assert losses["dense"] < losses["ticket"]
