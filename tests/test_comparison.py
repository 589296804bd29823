"""Comparisons through the command line, at a scale of milliseconds."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from command_line import Run, runner

RECIPE = """
batch-size = 4
sequence-length = 16
learning-rate = 5e-3
[imp]
prune-every = 2
learning-rate = 5e-2
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(RECIPE)
    return runner(monkeypatch, capsys)


@pytest.fixture
def sweep(tiny_model: Path, text_file: Path) -> list[object]:
    """A sweep of two sparsities; what is missing are the methods."""
    words = "compare --sparsity 0.5,0.7 --recipe tiny.toml --blocks 8 --device cpu".split()
    return [*words, "--model", tiny_model, "--corpus", text_file]


def times(pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path("runs").glob(pattern)}


def test_a_sweep_reports_every_method_and_repeats_no_run(run: Run, sweep: list[object]) -> None:
    methods = ["--methods", "tamt-mlm,tamt-kd,imp,magnitude,random", "--seeds", "1,2"]
    done = run(*sweep, *methods, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    folder = Path(result["folder"])
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"method", "objective", "sparsity", "seed", "mlm_loss", "kd_loss"} <= rows[0].keys()
    # Dense; at each sparsity three trained methods with two seeds, magnitude, and three random.
    assert len(rows) == 1 + 2 * (3 * 2 + 1 + 3)
    dense = rows[0]
    assert (dense["method"], float(dense["kd_loss"])) == ("dense", 0.0)
    steps = {(row["method"], row["objective"], row["sparsity"], row["steps"]) for row in rows}
    assert {("tamt", "mlm", "0.5", "8"), ("tamt", "kd", "0.7", "12")} <= steps  # equal budget
    assert {("imp", "mlm", "0.5", "8"), ("imp", "mlm", "0.7", "12")} <= steps
    assert result == {
        key: value
        for key, value in json.loads((folder / "results.json").read_text()).items()
        if key != "environment"
    }
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"loss.png", "loss.svg", "flips.png", "similarity.svg"} <= names
    assert (folder / "figures" / "loss.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"(src|href)=.(?!data:)", page)  # self-contained
    assert "| 0.5 | TAMT-MLM |" in (folder / "report.md").read_text()

    runs = times("search-*/result.json")
    assert len(runs) == 12
    again = run(*sweep, *methods, "--json")
    assert json.loads(again.out)["results"] == result["results"]
    assert again.err.count("done before") == 12
    more = run(*sweep, "--methods", "tamt-mlm,tamt-mlm+kd,imp,magnitude", "--seeds", "1")
    assert more.code == 0, more.err
    assert more.out.count("searching") == 2  # what is new: tamt-mlm+kd at two sparsities
    assert runs.items() <= times("search-*/result.json").items()
