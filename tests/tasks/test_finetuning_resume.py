"""Fine-tuning that is interrupted within a seed ends with the bits of one that is not."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import processes
import pytest
import tiny
from interrupted_finetuning import Interrupting
from samples import own_config, ticket_for

from tamtctl.foundations.errors import TamtctlError
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.result import FinetuneResult

STEPS = 40
TOPICS = ("list", "file")
CHECKPOINT = ".seed-1.unfinished/checkpoints"


pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture
def config() -> FinetuneConfig:
    """Forty steps of a model with dropout."""
    model = tiny.save(Path("bert").absolute(), "bert", with_head=False)
    ticket = ticket_for(model, Path("mine").absolute())
    data = str(Path("own.jsonl").absolute())
    dev = Path("dev.jsonl").absolute()
    rows = [{"text": f"{word} {topic}", "label": topic} for word in "abc" for topic in TOPICS]
    dev.write_text("\n".join(map(json.dumps, rows)))
    values = {"batch_size": 6, "epochs": 10, "learning_rate": 1e-3, "train": data, "dev": str(dev)}
    return own_config(model, ticket=str(ticket), **values)


def bits(seed: Path) -> dict[str, Any]:
    """Return all of a seed's folder but what differs between any two runs."""
    files = {path.name: path.read_bytes() for path in seed.iterdir()}
    metrics = json.loads(files.pop("metrics.json"))
    lines = [json.loads(line) for line in files.pop("metrics.jsonl").splitlines()]
    del metrics["seconds"], metrics["environment"]
    losses = {line["step"]: line["learning_rate"] for line in lines if line["step"] % 10 == 0}
    assert len({line["step"] for line in lines}) == len(lines)
    return {"metrics": metrics, "losses": losses} | files


def assert_same(one: FinetuneResult, other: FinetuneResult) -> None:
    for a, b in zip(one.checkpoint, other.checkpoint, strict=True):
        assert bits(a) == bits(b)


@pytest.mark.parametrize("select", ["last", "best"])
def test_it_goes_on_from_the_last_checkpoint(select: str, config: FinetuneConfig) -> None:
    config = replace(config, select=select)
    whole = finetune(config, output_dir=Path("whole"))
    saving = replace(config, checkpoint_every=7)
    with pytest.raises(EOFError):
        finetune(saving, output_dir=Path("run"), watcher=Interrupting(30))
    (first, last) = sorted((Path("run") / CHECKPOINT).iterdir())
    assert (first.name[:13], last.name[:13]) == ("step-00000021", "step-00000028")
    watcher = Interrupting()
    result = finetune(config, output_dir=Path("run"), watcher=watcher)
    assert watcher.notes == [f"going on from step 28 of {STEPS}, saved in {last}"]
    assert_same(result, whole)
    assert sorted(path.name for path in Path("run").iterdir()) == [
        "config.json", "identity.json", "result.json", "seed-1",
    ]  # fmt: skip


def test_it_goes_on_with_nothing_but_its_own_model_and_force_starts_anew(
    config: FinetuneConfig,
) -> None:
    saving = replace(config, checkpoint_every=7, ticket=None, dense=True)
    with pytest.raises(EOFError):
        finetune(saving, output_dir=Path("run"), watcher=Interrupting(20))
    tiny.save(Path(str(config.model)), "bert", with_head=False, seed=1)
    with pytest.raises(TamtctlError, match=r"the weights of model .* changed since"):
        finetune(saving, output_dir=Path("run"))
    watcher = Interrupting()
    finetune(saving, output_dir=Path("run"), force=True, watcher=watcher)
    assert watcher.notes == []


def arguments(config: FinetuneConfig, *more: object) -> list[object]:
    words = "finetune own --json --device cpu --threads 1 --output-dir".split()
    words.append(str(Path("run").absolute()))
    for name in ("train", "dev", "model", "ticket", "epochs", "batch_size", "learning_rate"):
        words += ["--" + name.replace("_", "-"), str(getattr(config, name))]
    return [*words, *more]


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bits(
    kills: int, config: FinetuneConfig, tmp_path: Path
) -> None:
    whole = finetune(config, output_dir=Path("whole"))
    moments = random.Random(kills)
    for _ in range(kills):
        process = processes.start(arguments(config, "--checkpoint-every", 1), tmp_path)
        wanted = moments.randint(1, 6)
        seen: set[Path] = set()
        while process.is_alive() and len(seen) < wanted:
            seen.update((Path("run") / CHECKPOINT).glob("step-*"))
            time.sleep(0.001)  # leaves the core to the process
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.join()
    process = processes.start(arguments(config), tmp_path)
    process.join()
    assert process.exitcode == 0, Path("err").read_text()
    result = json.loads(Path("out").read_text())
    assert result["scores"] == whole.scores
    assert (
        bits(Path("run") / "seed-1")["model.safetensors"]
        == (whole.checkpoint[0] / "model.safetensors").read_bytes()
    )


def test_a_second_process_is_refused_and_a_signal_ends_the_first_after_its_step(
    config: FinetuneConfig, tmp_path: Path
) -> None:
    config = replace(config, epochs=30)
    process = processes.start(arguments(config), tmp_path)
    log = Path("run/.seed-1.unfinished/metrics.jsonl")
    while process.is_alive() and not (log.exists() and log.stat().st_size):
        time.sleep(0.001)
    assert process.pid
    os.kill(process.pid, signal.SIGSTOP)
    (tmp_path / "second").mkdir()
    second = processes.start(arguments(config), tmp_path / "second")
    second.join()
    assert second.exitcode == 1
    assert "another process or thread is at this very run" in Path("second/err").read_text()
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == 143
    last = json.loads(log.read_text().splitlines()[-1])["step"]
    said = f"step {last} is saved; the same command goes on from there"
    assert said in Path("err").read_text()
    process = processes.start(arguments(config), tmp_path)
    process.join()
    assert f"going on from step {last} of 120" in Path("err").read_text()
    assert process.exitcode == 0
