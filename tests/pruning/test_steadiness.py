"""A search warns of nothing, leaks nothing, and gives the same bits wherever it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import processes
import pytest
from small_search import Interrupting, bits, command, small_config

from tamtctl.foundations.watching import StepReport
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search


@pytest.fixture
def config(tiny_model: Path, text_file: Path) -> SearchConfig:
    return small_config(tiny_model, text_file)


def test_nothing_warns(config: SearchConfig, tmp_path: Path) -> None:
    options = ("--log-to", "tensorboard", "--eval-every", 20, "--checkpoint-every", 20)
    arguments = map(str, command(config, *options))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tamtctl", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()


@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_the_same_bits_one_after_another_and_side_by_side(
    count: int, config: SearchConfig, tmp_path: Path
) -> None:
    found = [search(config, output_dir=tmp_path / f"after-{i}" / "run") for i in range(count)]
    folders = [tmp_path / f"beside-{i}" for i in range(count)]
    for folder in folders:
        folder.mkdir()
    running = [processes.start(command(config), folder) for folder in folders]
    for process, folder in zip(running, folders, strict=True):
        process.join()
        assert process.exitcode == 0, (folder / "err").read_text()
    expected = bits(found[0].ticket)
    assert expected["metadata"]["metrics"]["flips"] > 0.1
    for result in found[1:]:
        assert bits(result.ticket) == expected
    for folder in folders:
        assert {k: v for k, v in bits(folder / "run" / "ticket").items() if k != "metadata"} == {
            k: v for k, v in expected.items() if k != "metadata"
        }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays_flat(tiny_model: Path, text_file: Path, tmp_path: Path) -> None:
    class Weighing(Interrupting):
        sizes: dict[int, int]  # step → kB

        def progress(self, report: StepReport) -> None:
            status = Path("/proc/self/status").read_text()
            self.sizes[report.step] = int(status.split("VmRSS:")[1].split()[0])

    watcher = Weighing(after=10_000)
    watcher.sizes = {}
    config = small_config(
        tiny_model, text_file, steps=2500, objective="mlm+kd", eval_every=100, checkpoint_every=100
    )
    search(config, output_dir=tmp_path / "run", watcher=watcher)
    assert watcher.sizes[2500] - watcher.sizes[500] < 1024, watcher.sizes
