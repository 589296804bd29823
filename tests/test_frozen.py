"""What users and their finished runs rely on: names, folders, bytes and exit codes.

A finished run is found again by the name of its folder, and the same request gives the same mask.
Everything is asked for through the exported names and the command line, so that code may move
without a change to this file. What fails here, users would notice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tamtctl

EXPORTED = """
    BenchConfig BenchResult CompareConfig Comparison EvaluateConfig Evaluation FinetuneConfig
    FinetuneResult KeepZeros KeptZeros Labelled ProgressBars RecoverConfig RecoverResult
    SearchConfig SearchPlan SearchResult Silent TamtctlError Ticket bench cache_contents
    clear_cache combine compare compare_masks derive env evaluate export figure finetune
    import_ticket inspect_ticket
    keep_zeros kept_zeros known_tickets label list_tickets make_part nano_path plan_comparison
    plan_search published_tickets pull push recover search
    semi_structured unpack
""".split()

TINY = (
    "--recipe nano --model model --corpus text.txt --sparsity 0.5 --batch-size 4 "
    "--sequence-length 16 --device cpu"
)
TWO_VALUED = "--init magnitude --init-scores two-valued"  # as all scores began
OWN = "own --train own.jsonl --dev own.jsonl --epochs 1 --learning-rate 1e-6 --batch-size 8"


@pytest.fixture
def printed(
    run: Callable[..., Any],
    tiny_model: Path,
    text_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Any]:
    """A function that returns what a command prints, in a folder with a model and texts."""
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copy(text_file, tmp_path / "text.txt")
    rows = ({"text": f"{x} is the {y}", "label": y} for y in ("list", "file") for x in "abcdefghij")
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)

    def printed(line: str) -> Any:
        done = run(*line.split(), "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    return printed


def test_exported_names() -> None:
    assert tamtctl.__all__ == EXPORTED
    for name in EXPORTED:
        assert getattr(tamtctl, name).__module__.startswith("tamtctl.")


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        (f"search {TINY} {TWO_VALUED} --dry-run", "search-model-0.5-tamt-mlm-043abf4d"),
        (f"search {TINY} --method random --seed 3 --dry-run", "search-model-0.5-random-908c0286"),
        (
            f"search {TINY} --steps 7 --objective kd --init random --init-scores two-valued "
            "--threads 1 --dry-run",
            "search-model-0.5-tamt-kd-98165aa2",
        ),
        (f"finetune {OWN} --dense --model model", "finetune-own-dense-model-eaf62998"),
        (
            f"finetune {OWN} --ticket nano-0.7 --max-length 16 --select best",
            "finetune-own-nano-0.7-2135595b",
        ),
        (
            "compare nano-0.7 --corpus text.txt --blocks 8 --sequence-length 16",
            "compare-nano-0.7-e4a8449d",
        ),
    ],
)
def test_names_of_the_folders_of_runs(
    line: str, folder: str, printed: Callable[[str], Any]
) -> None:
    found = printed(line)
    assert found.get("run_folder", found.get("folder")) == f"runs/{folder}"


def test_hashes_of_searches() -> None:
    two_valued = tamtctl.SearchConfig.from_recipe(
        "nano", sparsity=0.8, init="magnitude", init_scores="two-valued"
    )
    assert two_valued.hash == "c31c99b5"
    many = tamtctl.SearchConfig.from_recipe(
        "paper",
        sparsity=0.65,
        corpus=("a.txt", "org/data:config"),
        held_out=("b.txt",),
        check_corpus=("python-docs",),
        text_column="body",
        objective="mlm+kd",
        init="random",
        micro_batch_size=4,
        weight_decay=0.01,
        clip="per-tensor",
        precision="bf16",
        compile=True,
        low_memory=True,
        threads=3,
        seed=7,
        max_minutes=2.5,
        eval_every=100,
        patience=2,
        log_to="tensorboard",
        keep_scores=True,
        base_model="org/name@main",
    )
    assert many.hash == "d9f734da"
    imp = tamtctl.SearchConfig.from_recipe("nano", sparsity=0.7, method="imp", prune_every=20)
    assert imp.hash == "5ab09b77"


def test_hashes_of_comparisons() -> None:
    assert tamtctl.CompareConfig(sparsities=(0.5, 0.7, 0.9)).hash == "83bb94ac"
    many = tamtctl.CompareConfig(
        sparsities=(0.5, 0.7),
        methods=("tamt-mlm", "imp", "random"),
        seeds=(1, 2),
        recipe="paper",
        model="nano",
        corpus=("a.txt",),
        prune_every=30,
        at_steps=(5, 10),
        keep_scores=True,
        tasks=("sst2",),
        task_seeds=(1, 2, 3),
        limit=100,
        evaluation_blocks=64,
    )
    assert many.hash == "0e5e9b9d"


@pytest.mark.parametrize(
    ("method", "seed", "digest"),
    [
        ("magnitude", 1, "5129c3ec5962a0422f8c6c772e96c4ec67c48dc76cc4bd1d77f9e48999dee09e"),
        ("random", 1, "9abe07d1a3c192c83e07a9c1ecb34a0c0937e93d473e56b0a203c8ccf2fb2bac"),
        ("random", 2, "8c5934cc21d13b98eff73736f45271a69c9d45da4c58688754926fb2d385c19d"),
    ],
)
def test_bytes_of_masks_that_take_no_training(
    method: str, seed: int, digest: str, text_file: Path, working_folder: None
) -> None:
    config = tamtctl.SearchConfig.from_recipe(
        "nano",
        sparsity=0.7,
        method=method,
        seed=seed,
        corpus=(str(text_file),),
        sequence_length=16,
        evaluation_blocks=4,
    )
    result = tamtctl.search(config)
    file = result.ticket / "mask.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help", 0),
        ("search --sparsity 1.5", 2),
        ("search --no-such-option", 2),
        ("search --sparsity 0.5 --method nothing", 2),
        ("no-such-command", 2),
        ("finetune no-such-task", 2),
        ("search --sparsity 0.5 --recipe nano --corpus missing.txt", 1),
        ("inspect missing/ticket", 1),
        ("export nano-0.7 --output-dir .", 2),
    ],
)
def test_exit_codes(line: str, code: int, run: Callable[..., Any], working_folder: None) -> None:
    done = run(*line.split())
    assert done.code == code, done.err
    if code:
        assert done.err.splitlines()[-1].startswith("error: ")
