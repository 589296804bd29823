"""Several processes: the same result as one, one voice, and no process left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import tiny
import torch
import train_in_parallel
from safetensors.torch import load_file, save_file
from samples import examples_file
from sentence_models import with_modules

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SEARCH = "search --sparsity 0.7 --sequence-length 16 --device cpu".split()


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pruned(model: Path, to: Path) -> Path:
    """A copy of a model, in the layers of which every other weight is zero."""
    shutil.copytree(model, to)
    weights = load_file(to / "model.safetensors")
    for name, weight in weights.items():
        if ".layer." in name and weight.dim() == 2:
            weight.view(-1)[::2] = 0
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


def test_two_processes_give_what_one_gives(text_file: Path, tmp_path: Path) -> None:
    # Without dropout, which is a seed's and a process's own.
    model = tiny.save(
        tmp_path / "model", "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    with_modules(model, {"pooling_mode_mean_tokens": True})
    examples = examples_file(tmp_path / "own.jsonl", count=31)  # the last batch has one example
    sparse = pruned(model, tmp_path / "sparse")
    inputs = [model, sparse, text_file, examples]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    running = [
        processes.Process(
            target=train_in_parallel.main_of, args=(environment, *inputs, tmp_path / "two")
        )
        for environment in processes.environments(2)
    ]
    for process in running:
        process.start()
    train_in_parallel.main(model, sparse, text_file, examples, tmp_path / "one")
    for process in running:
        process.join()
        assert process.exitcode == 0

    for search in train_in_parallel.SEARCHES:
        one, two = (load_file(tmp_path / name / f"{search}.safetensors") for name in ("one", "two"))
        assert one.keys() == two.keys()
        masks = [name for name in one if name.startswith("mask.")]
        differing = sum(int((one[name] != two[name]).sum()) for name in masks)
        assert differing <= 1e-4 * sum(one[name].numel() for name in masks), search
        for name in one.keys() - set(masks):
            # A step moves a score in nats by up to 0.05; those that a floor lifts are around 200.
            torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=2e-7, msg=search)
    weights = [
        load_file(tmp_path / name / "finetune/seed-1/model.safetensors") for name in ("one", "two")
    ]
    assert weights[0].keys() == weights[1].keys()
    zeros = {n: w == 0 for n, w in load_file(sparse / "model.safetensors").items() if w.dim() == 2}
    assert sum(bool(zero.any()) for zero in zeros.values()) == 12
    for name, weight in weights[0].items():
        for trained in weights:
            assert not trained[name][zeros[name]].any() if name in zeros else True
        torch.testing.assert_close(weight, weights[1][name], atol=1e-5, rtol=0)
    for run in train_in_parallel.FINETUNINGS:
        one, two = (
            json.loads((tmp_path / name / run / "result.json").read_text())
            for name in ("one", "two")
        )
        for what in ("scores", "rate_search", "epochs_done", "reported_epochs"):
            assert one[what] == two[what], (run, what)


def test_a_refusal_is_one_line(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    options = ["--model", tiny_model, "--corpus", text_file, "--output-dir", tmp_path / "run"]
    for process in processes.start_several(2, [*SEARCH, *options, "--batch-size", 1], tmp_path):
        process.join()
        assert process.exitcode == 2
    errors = "".join((tmp_path / f"err-{rank}").read_text() for rank in range(2))
    assert [line for line in errors.splitlines() if line.startswith("error: ")] == [
        "error: a batch of 1 cannot be shared by 2 processes; give a larger --batch-size, "
        "or start fewer"
    ]
    assert errors.count("recipe fast") == 1
    assert not (tmp_path / "run").exists()


def test_a_killed_process_ends_the_run(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--model", tiny_model, "--corpus", text_file, "--output-dir", run]
    running = torchrun("-m", "tamtctl", *SEARCH, *options, "--steps", 100_000, "--batch-size", 2)
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(running.pid)], capture_output=True, text=True, check=True
    )
    first, second = sorted(map(int, listed.stdout.split()))
    os.kill(second, signal.SIGKILL)
    output, errors = running.communicate(timeout=60)
    assert running.returncode != 0
    assert sum(line.startswith("error: ") for line in errors.splitlines()) <= 1
    assert errors.count("Traceback") == 1  # torchrun's own
    assert output == ""
    assert errors.count("loading model") == errors.count("mask        ") == 1
    assert errors.count("2 processes × 1 thread") == 1
    assert not (run / "result.json").exists()
    assert not (run / "ticket").exists()
    for process in (first, second):
        assert not Path(f"/proc/{process}").exists()
