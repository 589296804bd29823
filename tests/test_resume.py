"""A search survives anything: it is killed, goes on, and finds the same bits."""

from __future__ import annotations

import json
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import processes
import pytest

from tamtctl.config import SearchConfig
from tamtctl.searching import search
from tamtctl.training import StepReport

STEPS = 40


@pytest.fixture
def config(tiny_model: Path, text_file: Path) -> SearchConfig:
    return SearchConfig.from_recipe(
        "nano",
        sparsity=0.7,
        model=str(tiny_model),
        corpus=(str(text_file),),
        steps=STEPS,
        batch_size=4,
        sequence_length=16,
        learning_rate=5e-3,
        evaluation_blocks=8,
        device="cpu",
        checkpoint_every=4,
    )


class Interrupting:
    """A watcher that ends the search by an error of its own after a step."""

    class Ended(Exception):  # noqa: N818, it is none
        pass

    def __init__(self, after: int = STEPS + 1) -> None:
        self.after = after
        self.notes: list[str] = []

    def status(self, message: str) -> None: ...
    def plan(self, plan: object) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)

    def progress(self, report: StepReport) -> None:
        if report.step >= self.after:
            raise self.Ended


def interrupted(config: SearchConfig, run: Path, after: int) -> list[Path]:
    """Run a search that ends in step ``after``; return its checkpoints, oldest first."""
    with pytest.raises(Interrupting.Ended):
        search(config, output_dir=run, watcher=Interrupting(after))
    return sorted((run / "checkpoints").iterdir())


def bits(ticket: Path) -> dict[str, Any]:
    """Return all of a ticket but when it was made."""
    metadata = json.loads((ticket / "ticket.json").read_text())
    del metadata["created"]
    return {"metadata": metadata} | {
        file.name: file.read_bytes() for file in ticket.glob("*.safetensors")
    }


def check_metrics(run: Path) -> None:
    """Every report is there once, and in order, whatever happened on the way."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert set(range(10, STEPS + 1, 10)) <= set(steps)
    assert [line["is_last"] for line in lines] == [False] * (len(lines) - 1) + [True]


def await_write(run: Path, process: BaseProcess, count: int) -> None:
    """Return when the process is seen to write a checkpoint for the ``count``-th time, or ends."""
    seen: set[Path] = set()
    while process.is_alive() and len(seen) < count:
        seen.update(run.glob("checkpoints/.step-*"))


def command(config: SearchConfig, *more: object) -> list[object]:
    options: list[object] = ["search", "--output-dir", "run", "--json", *more]
    for name in ("sparsity", "model", "steps", "batch_size", "sequence_length", "learning_rate"):
        options += ["--" + name.replace("_", "-"), getattr(config, name)]
    return [*options, "--corpus", config.corpus[0], "--device", "cpu"]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bits(
    kills: int, config: SearchConfig, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole = processes.start(command(config), tmp_path / "whole")
    started = time.monotonic()
    whole.join()
    seconds = time.monotonic() - started
    assert whole.exitcode == 0, (tmp_path / "whole" / "err").read_text()
    moments = random.Random(kills)
    run = tmp_path / "run"
    in_a_write = 0
    for kill in range(kills):
        process = processes.start(command(config, "--checkpoint-every", 1), tmp_path)
        if kill % 2:
            time.sleep(moments.uniform(0, seconds))
        else:
            await_write(run, process, moments.randint(1, 8))
        process.kill()
        process.join()
        in_a_write += bool(list(run.glob("checkpoints/.step-*")))
    assert in_a_write or kills < 20
    process = processes.start(command(config, "--checkpoint-every", 3), tmp_path)
    process.join()
    assert process.exitcode == 0, (tmp_path / "err").read_text()
    assert bits(run / "ticket") == bits(tmp_path / "whole" / "run" / "ticket")
    check_metrics(run)
    assert {p.name for p in run.iterdir()} == {
        "config.json", "metrics.jsonl", "result.json", "ticket",
    }  # fmt: skip
