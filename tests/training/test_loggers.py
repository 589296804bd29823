"""What loggers get of a run, asked of their own libraries, which are told to stay offline."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Run
from small_search import RECIPE

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.watching import StepReport
from tamtctl.pruning.config import SearchConfig
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.training.loggers import LOGGERS, Logger
from tamtctl.training.loggers.logged import LoggedRun, public_configuration
from tamtctl.training.run_log import Logging, RunLog

SECRETS = ("a-secret-folder", "a-secret-remote")


def report(step: int) -> StepReport:
    evaluated = {"mlm": 3.0} if step == 20 else {}
    return StepReport(step, 40, {"mlm": 4 - step / 100}, 0.1, 0.2, 1000.0, step, False, evaluated)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory under git whose path and remote are nobody's business."""
    folder = tmp_path / SECRETS[0]
    (folder / "run-1").mkdir(parents=True)
    (folder / "text.txt").touch()
    monkeypatch.chdir(folder)
    subprocess.run(["git", "init", "-q"], check=True)
    remote = f"https://example.org/{SECRETS[1]}.git"
    subprocess.run(["git", "remote", "add", "origin", remote], check=True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    return folder


def logged(log_to: str, folder: Path) -> None:
    """Log a run of 40 steps that was interrupted after step 20 and goes on from step 10."""
    told = {"corpus": [str(folder / "text.txt"), "org/data"], "steps": 40, "seed": None}
    logging = Logging(log_to, "search-1", told)
    notes: list[str] = []
    for after, steps in ((0, (10, 20)), (10, (20, 30, 40))):
        with RunLog(folder / "run-1", after, logging, notes.append) as log:
            for step in steps:
                log.write(report(step))
    assert not notes


def holds_nothing_else(content: bytes) -> None:
    for secret in (*SECRETS, socket.gethostname(), Path(__file__).name):
        if len(secret) > 4:  # a short name is part of other words
            assert secret.encode() not in content


@pytest.mark.slow
def test_wandb(here: Path) -> None:
    pytest.importorskip("wandb")
    logged("wandb", here)
    first, second = sorted((here / "run-1" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert first.name == second.name  # one run, which goes on
    content = first.read_bytes() + second.read_bytes()
    for told in (b"search-1", b"text.txt", b"org/data", b"terms/mlm", b"eval_losses/mlm"):
        assert told in content
    holds_nothing_else(content)
    assert not [*(here / "run-1" / "wandb").glob("offline-run-*/files/*")]


@pytest.mark.slow
def test_mlflow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (here / "store").as_uri())
    logged("mlflow", here)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("tamtctl")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("search-1", "FINISHED")
    assert run.data.params == {
        "corpus": "['text.txt', 'org/data']", "steps": "40", "seed": "None",
    }  # fmt: skip
    losses = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss")}
    assert losses == {step: report(step).loss for step in (10, 20, 30, 40)}
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 4
    assert run.data.tags == {"mlflow.runName": "search-1"}


@pytest.mark.slow
def test_trackio(here: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    code = (
        "import test_loggers, sys; from pathlib import Path; "
        "test_loggers.logged('trackio', Path(sys.argv[1]))"
    )
    # In a process of its own: the library reads its folder when it is imported.
    done = subprocess.run(
        [sys.executable, "-c", code, str(here)],
        env={"PYTHONPATH": f"{Path(__file__).parent}:{':'.join(sys.path)}", "HF_HUB_OFFLINE": "1",
             "TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select step, metrics from metrics order by step").fetchall()
    assert [step for step, _ in rows] == [10, 20, 30, 40]
    assert json.loads(rows[0][1])["loss"] == pytest.approx(report(10).loss)
    # As bytes, since the library packs what it is told.
    files = [file for file in (tmp_path / "trackio").rglob("*") if file.is_file()]
    everything = b"\n".join(file.read_bytes() for file in files)
    assert b"org/data" in everything
    holds_nothing_else(everything)


# --- any logger ----------------------------------------------------------------------------------


class Kept:
    """A logger that keeps what it is told."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.runs: list[LoggedRun] = []
        self.steps: list[int] = []
        self.closed = 0
        self.fails_at = fails_at

    def open_log(self, run: LoggedRun) -> Any:
        self.runs.append(run)
        return SimpleNamespace(id=run.id or "a1", write=self._write, close=self._close)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise ConnectionError("the server is gone")
        self.steps.append(step)

    def _close(self) -> None:
        self.closed += 1


@pytest.fixture
def kept() -> Iterator[Kept]:
    own = Kept()
    with LOGGERS.holding(Logger(name="kept", code=own, package="json")):
        yield own


def test_a_run_that_goes_on_is_the_same_run(kept: Kept, tmp_path: Path) -> None:
    for after, steps in ((0, (10, 20)), (10, (20, 30)), (0, (10,))):
        with RunLog(tmp_path, after, Logging("kept", "name"), lambda _: None) as log:
            for step in steps:
                log.write(report(step))
    assert [run.id for run in kept.runs] == [None, "a1", None]
    assert kept.steps == [10, 20, 30, 10]
    assert kept.closed == 3


def test_a_logger_that_fails_ends_no_run(tmp_path: Path) -> None:
    own = Kept(fails_at=20)
    notes: list[str] = []
    row = Logger(name="failing", code=own, package="json")
    logging = Logging("failing", "name")
    with LOGGERS.holding(row), RunLog(tmp_path, 0, logging, notes.append) as log:
        for step in (10, 20, 30):
            log.write(report(step))
    assert own.steps == [10]
    (note,) = notes
    assert "failing gets no more of this run (the server is gone)" in note
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_logger_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    def refuse(run: LoggedRun) -> None:
        raise RuntimeError("no API key\nset one")

    row = Logger(name="refusing", code=SimpleNamespace(open_log=refuse), package="json")
    with LOGGERS.holding(row), pytest.raises(UsageError, match=r"--log-to refusing: no API key$"):
        RunLog(tmp_path, 0, Logging("refusing", "name"), lambda _: None)


def test_no_path_is_part_of_a_public_configuration(tmp_path: Path) -> None:
    (tmp_path / "text.txt").touch()
    told = public_configuration(
        {"model": "org/name", "corpus": [str(tmp_path / "text.txt")], "train": "~/own.jsonl",
         "steps": 4, "device": "cpu", "ticket": "runs/search-x/ticket"}
    )  # fmt: skip
    assert str(tmp_path) not in json.dumps(told)
    assert (told["model"], told["corpus"], told["train"]) == ("org/name", ["text.txt"], "own.jsonl")


def test_search_and_finetune_log(
    kept: Kept, tiny_model: Path, text_file: Path, run: Run, working_folder: None
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    at = ["--model", tiny_model, "--device", "cpu", "--log-to", "kept"]
    done = run("search", "--sparsity", 0.5, "--recipe", "tiny.toml", "--corpus", text_file, *at)
    assert done.code == 0, done.err
    (searched,) = kept.runs
    assert searched.name == searched.folder.name
    assert searched.configuration["corpus"] == ["text.txt"]
    assert searched.configuration["model"] == tiny_model.name
    assert kept.steps
    rows = [{"text": f"{x} is it", "label": y} for y in ("list", "file") for x in "abcdefghij"]
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = "finetune own --dense --train own.jsonl --epochs 1 --batch-size 8 --seeds 1,2".split()
    done = run(*own, *at)
    assert done.code == 0, done.err
    names = [logged.name for logged in kept.runs[1:]]
    assert [name.rpartition("-")[2] for name in names] == ["1", "2"]
    assert kept.runs[1].configuration["train"] == "own.jsonl"


@pytest.mark.parametrize("name", LOGGERS)
def test_every_logger_can_be_asked_for_and_makes_no_other_run(name: str) -> None:
    for config in (
        SearchConfig.from_recipe("nano", sparsity=0.5),
        FinetuneConfig(task="sst2", dense=True),
    ):
        logging = replace(config, log_to=name)
        assert logging.to_dict() == config.to_dict()
