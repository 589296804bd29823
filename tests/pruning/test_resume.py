"""A search survives anything: it is killed, goes on, and finds the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from small_search import STEPS, Interrupting, bits, command, interrupted, small_config

from tamtctl.foundations.errors import DivergedError, TamtctlError
from tamtctl.foundations.signals import SAVING
from tamtctl.foundations.watching import StepReport
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search


@pytest.fixture
def config(tiny_model: Path, text_file: Path) -> SearchConfig:
    return small_config(tiny_model, text_file, checkpoint_every=4)


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
        time.sleep(0.0005)  # leaves the core to the process, and is shorter than a write


IN_NATS: dict[str, Any] = {"init_scores": "nats", "learning_rate": 0.05, "init": "obs"}


@pytest.mark.parametrize(
    ("kills", "changes"),
    [
        (3, IN_NATS),
        pytest.param(20, IN_NATS, marks=pytest.mark.slow),
        pytest.param(20, {}, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_it_ends_with_the_same_bits(
    kills: int, changes: dict[str, Any], config: SearchConfig, tmp_path: Path
) -> None:
    config = replace(config, **changes)
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
        "config.json", "identity.json", "metrics.jsonl", "result.json", "ticket",
    }  # fmt: skip


LONG = 100  # steps, during which a signal arrives


@pytest.fixture(scope="module")
def long_search(
    tiny_model: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The ticket of a search that nothing interrupts."""
    config = small_config(tiny_model, text_file, steps=LONG)
    return bits(search(config, output_dir=tmp_path_factory.mktemp("long") / "run").ticket)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_a_search_after_the_step_under_way(
    number: signal.Signals,
    code: int,
    word: str,
    config: SearchConfig,
    long_search: dict[str, Any],
    tmp_path: Path,
) -> None:
    arguments = command(config, "--steps", LONG)
    process = processes.start(arguments, tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.is_alive() and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.001)
    assert process.pid
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == code
    last = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert 0 < last < LONG
    said = f"step {last} is saved; the same command goes on from there"
    told = (tmp_path / "err").read_text()
    assert said in told
    assert told.count(SAVING.partition(";")[0]) == 1
    assert told.index("saving after") < told.index(said) < told.index(f"error: {word}")
    assert "Traceback" not in told
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"checkpoints", "config.json", "identity.json", "metrics.jsonl"}
    process = processes.start(arguments, tmp_path)
    process.join()
    assert json.loads((tmp_path / "out").read_text())["resumed_from"] == last
    found = bits(tmp_path / "run" / "ticket")
    assert {name: found[name] for name in found if name != "metadata"} == {
        name: value for name, value in long_search.items() if name != "metadata"
    }


def test_a_second_signal_does_not_wait(config: SearchConfig, tmp_path: Path) -> None:
    class Impatient(Interrupting):
        def progress(self, report: StepReport) -> None:
            signal.raise_signal(signal.SIGINT)  # is kept until the step is saved
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not here")

    with pytest.raises(KeyboardInterrupt):
        search(replace(config, checkpoint_every=None), output_dir=tmp_path, watcher=Impatient())
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("saved", "changes"),
    [
        (4, {}),
        (
            20,
            {"objective": "kd", "bias_correction": False, "clip": "per-tensor"}
            | {"weight_decay": 0.01, "precision": "bf16"},
        ),
        (20, {"objective": "mlm+kd", "dropout": True, "micro_batch_size": 3, "init": "random"}),
        (12, IN_NATS | {"low_memory": True}),
        (
            20,
            {"init_scores": "nats", "learning_rate": 0.05, "head_learning_rate": 5e-3}
            | {"init": "wanda", "allocation": "global", "budget_criterion": "fisher"},
        ),
        (16, {"method": "imp", "prune_every": 10, "sparsity": 0.45, "allocation": "by-type"}),
        (16, {"method": "imp", "prune_every": 10, "sparsity": 0.45, "dropout": True}),
        (20, {"method": "imp", "prune_every": 10, "sparsity": 0.45, "rewind": "none"}),
    ],
)
def test_every_kind_of_search_goes_on_with_the_same_bits(
    saved: int, changes: dict[str, Any], config: SearchConfig, tmp_path: Path
) -> None:
    config = replace(config, **changes)
    whole = search(replace(config, checkpoint_every=None), output_dir=tmp_path / "whole")
    interrupted(config, tmp_path / "run", saved + 1)
    watcher = Interrupting()
    result = search(config, output_dir=tmp_path / "run", watcher=watcher)
    assert result.resumed_from == saved
    (note,) = watcher.notes
    assert note.startswith(f"going on from step {saved} of {STEPS}, saved in ")
    assert bits(result.ticket) == bits(whole.ticket)
    check_metrics(tmp_path / "run")


def test_the_last_two_are_kept_and_a_damaged_one_is_named(
    config: SearchConfig, tmp_path: Path
) -> None:
    whole = search(config, output_dir=tmp_path / "whole")
    run = tmp_path / "run"
    before, last = interrupted(config, run, 22)
    assert [path.name[:13] for path in (before, last)] == ["step-00000016", "step-00000020"]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    watcher = Interrupting()
    result = search(config, output_dir=run, watcher=watcher)
    assert result.resumed_from == 16
    assert f"checkpoint {last} is damaged" in watcher.notes[0]
    assert "the one before is used" in watcher.notes[0]
    assert bits(result.ticket) == bits(whole.ticket)
    shutil.rmtree(run)
    for path in interrupted(config, run, 22):
        path.write_bytes(path.read_bytes()[:1000])
    watcher = Interrupting()
    result = search(config, output_dir=run, watcher=watcher)
    assert result.resumed_from == 0
    assert "there is none before" in watcher.notes[-1]
    assert bits(result.ticket) == bits(whole.ticket)
    check_metrics(run)


def test_force_starts_anew(config: SearchConfig, tmp_path: Path) -> None:
    interrupted(config, tmp_path / "run", 22)
    assert search(config, output_dir=tmp_path / "run", force=True).resumed_from == 0


def test_a_search_goes_on_with_nothing_but_its_own_inputs(
    config: SearchConfig, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    shutil.copy(config.corpus[0], text)
    config = replace(config, corpus=(str(text),))
    interrupted(config, tmp_path / "run", 22)
    original = text.read_text()
    text.write_text(original.replace("a", "the"))
    with pytest.raises(TamtctlError, match=rf"the corpus {text} changed since"):
        search(config, output_dir=tmp_path / "run")
    text.write_text(original)
    assert search(config, output_dir=tmp_path / "run").resumed_from == 20


def test_other_circumstances_are_noted_and_another_format_is_refused(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(config, tmp_path / "run", 10)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        watcher = Interrupting(after=20)
        with pytest.raises(Interrupting.Ended):
            search(config, output_dir=tmp_path / "run", watcher=watcher)
    finally:
        torch.set_num_threads(threads)
    assert f"threads was {threads}: the last bits of the result may" in watcher.notes[0]
    monkeypatch.setattr("tamtctl.training.checkpoints.FORMAT_VERSION", 2)
    with pytest.raises(TamtctlError, match=r"of another version of tamtctl.*--force"):
        search(config, output_dir=tmp_path / "run")


def test_what_follows_the_training_does_not_lose_it(config: SearchConfig, tmp_path: Path) -> None:
    class Evaluating(Interrupting):
        def status(self, message: str) -> None:
            if message.startswith("evaluating"):
                raise self.Ended

    with pytest.raises(Interrupting.Ended):
        search(config, output_dir=tmp_path / "run", watcher=Evaluating())
    result = search(config, output_dir=tmp_path / "run")
    assert result.resumed_from == result.steps == STEPS
    assert result.tokens_per_second > 0
    assert bits(result.ticket) == bits(search(config, output_dir=tmp_path / "whole").ticket)


def test_a_run_is_for_one_process_at_a_time(config: SearchConfig, tmp_path: Path) -> None:
    class Meddling(Interrupting):
        def progress(self, report: StepReport) -> None:
            with pytest.raises(TamtctlError, match="another process or thread is at this very run"):
                search(config, output_dir=tmp_path / "run")

    assert search(config, output_dir=tmp_path / "run", watcher=Meddling()).steps == STEPS


def test_a_full_disk_leaves_the_checkpoint_before(config: SearchConfig, tmp_path: Path) -> None:
    mount = shutil.which("mount")
    small = tmp_path / "small"
    small.mkdir()

    def mounted(options: str) -> bool:
        wanted = [mount or "", "-t", "tmpfs", "-o", options, "tmpfs", str(small)]
        return subprocess.run(wanted, capture_output=True, check=False).returncode == 0

    if not mount or not mounted("size=400k"):
        pytest.skip("needs the right to mount a small file system")
    try:
        # Two checkpoints differ by a few bytes, as their seconds have more or fewer digits.
        size = max(path.stat().st_size for path in interrupted(config, tmp_path / "any", 10))
        assert mounted(f"remount,size={(5 * size // 2 + 20_000) // 1024}k")
        with pytest.raises(TamtctlError) as raised:
            search(config, output_dir=small / "run")
        (_, last) = sorted((small / "run" / "checkpoints").iterdir())
        assert str(raised.value).startswith(
            "the checkpoint of step 12 was not written: no space left on the disk"
        )
        assert f"{last} is intact" in str(raised.value)
        assert mounted("remount,size=20M")
        result = search(config, output_dir=small / "run")
        assert result.resumed_from == 8
        assert bits(result.ticket) == bits(search(config, output_dir=tmp_path / "whole").ticket)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize(
    ("learning_rate", "message"),
    [(1e30, r"mlm loss became nan at step \d+"), (30.0, r"the loss exploded: .* at step \d+")],
)
def test_a_loss_that_is_lost_names_the_last_good_checkpoint(
    learning_rate: float, message: str, config: SearchConfig, tmp_path: Path
) -> None:
    lost = replace(config, learning_rate=learning_rate, checkpoint_every=1, steps=400)
    with pytest.raises(DivergedError, match=message) as raised:
        search(lost, output_dir=tmp_path / "run")
    paths = sorted((tmp_path / "run").glob("checkpoints/step-*"))
    expected = f"the last good checkpoint is {paths[-1]}" if paths else "none was saved before"
    assert str(raised.value).endswith(expected)
