"""Training that stops early and rates that are found: on what is held out of the training set."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import processes
import pytest
from command_line import Run
from samples import examples_file, squad_folder, ticket_for
from tiny import WORDS

from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.foundations.watching import Silent, StepReport
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.rate_search import RateSearch, TriedRate, rates_around, trial_steps
from tamtctl.tasks.finetuning.result import FinetuneResult
from tamtctl.tasks.registry import TASKS

pytestmark = pytest.mark.usefixtures("working_folder")


def config_of(model: Path, **changes: Any) -> FinetuneConfig:
    train = str(examples_file(Path("own.jsonl"), count=60))
    rows = [{"text": f"{word} {kind}", "label": kind} for word in "ab" for kind in ("list", "file")]
    Path("dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values: dict[str, Any] = {
        "task": "own",
        "train": train,
        "dev": "dev.jsonl",
        "model": str(model),
        "dense": True,
        "batch_size": 8,
        "threads": 1,
    }
    return FinetuneConfig(**(values | changes))


class Interrupting(Silent):
    """A watcher that ends the run by an error of its own at the given report."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def progress(self, report: StepReport) -> None:
        self.left -= 1
        if self.left == 0:
            raise EOFError


def interrupted(config: FinetuneConfig, folder: Path, at: int) -> FinetuneResult:
    """Return the result of a run that was ended after so many reports and started again."""
    with pytest.raises(EOFError):
        finetune(config, output_dir=folder, watcher=Interrupting(at))
    return finetune(config, output_dir=folder)


def weights(result: FinetuneResult) -> bytes:
    return (result.checkpoint[0] / "model.safetensors").read_bytes()


def facts_of(result: FinetuneResult) -> dict[str, Any]:
    return dict(json.loads((result.checkpoint[0] / "metrics.json").read_text()))


# --- patience --------------------------------------------------------------------------------


def test_patience_stops_on_what_is_held_out_and_reports_the_best_epoch(bare_bert: Path) -> None:
    config = config_of(bare_bert, epochs=40, learning_rate=1e-2, patience=2, checkpoint_every=3)
    result = finetune(config)
    assert (result.train_examples, result.dev_examples) == (48, 4)
    assert result.stopped_early == [True]
    facts = facts_of(result)
    found = [scores["accuracy"] for scores in facts["epoch_scores"]]
    best = found.index(max(found)) + 1
    assert (result.epochs_done, result.reported_epochs) == ([best + 2], [best])
    assert facts["steps"] == 6 * (best + 2)
    assert facts["data"]["held_out"]["examples"] == 12
    assert facts["selected_on"] == result.selected_on == "12 held-out training examples"
    assert not result.dev_selected
    # Many accuracies in twelfths: it cannot have been the dev set, which has four examples.
    assert any(round(12 * score) % 3 for score in found)
    again = interrupted(config, Path("again"), at=6)
    assert weights(again) == weights(result)
    assert again.epochs_done == result.epochs_done


def test_patience_on_the_dev_set_is_asked_for_and_said(bare_bert: Path, run: Run) -> None:
    config = config_of(bare_bert)
    files = ["--train", config.train, "--dev", config.dev, "--model", bare_bert, "--dense"]
    options = "--epochs 40 --learning-rate 0.01 --batch-size 8 --threads 1 --patience 1".split()
    result = json.loads(run("finetune", *files, *options, "--select", "best", "--json").out)
    assert result["train_examples"] == 60
    assert (result["selected_on"], result["dev_selected"]) == ("the dev set", True)
    shown = run("finetune", *files, *options)
    assert "held out, to stop by (--patience)" in shown.err
    assert "best epoch on 12 held-out training examples" in shown.out
    assert "seed 1 stopped early, after" in shown.out


def test_a_run_that_never_stops_says_so(bare_bert: Path) -> None:
    result = finetune(config_of(bare_bert, epochs=2, learning_rate=1e-9, patience=2))
    assert (result.stopped_early, result.epochs_done) == ([False], [2])


# --- the learning rate -----------------------------------------------------------------------


def test_the_rate_is_found_on_what_is_held_out(bare_bert: Path, run: Run) -> None:
    ticket = ticket_for(bare_bert, Path("mine"))
    config = config_of(bare_bert)
    command: list[object] = ["finetune", "--train", config.train, "--dev", config.dev]
    command += ["--model", bare_bert]
    command += ["--ticket", ticket, "--batch-size", 8, "--threads", 1, "--epochs", 6]
    shown = run(*command, "--find-learning-rate")
    assert "learning rate the best of 0.0002, 0.0006, 0.002, 0.006, 0.02" in shown.err
    assert (
        "learning rates tried: accuracy on 12 held-out training examples, after 36 steps"
        in shown.out
    )
    assert "too few held-out examples (12) to tell the rates apart: 30 are needed" in shown.out
    result = json.loads(run(*command, "--find-learning-rate", "--json").out)
    assert result["already_done"]
    assert result["train_examples"] == 60  # in the end all of it is trained on
    search = result["rate_search"]
    scores = {one["learning_rate"]: one["score"] for one in search["tried"]}
    assert list(scores) == [0.0002, 0.0006, 0.002, 0.006, 0.02]
    assert scores[search["learning_rate"]] == max(scores.values())
    assert result["training"]["learning_rate"] == search["learning_rate"]
    facts = json.loads(Path(result["checkpoint"][0], "metrics.json").read_text())
    assert facts["rate_search"] == search
    assert facts["task"]["learning_rate"] == search["learning_rate"]
    assert not list(Path(result["run_folder"]).glob(".rate-*"))

    same = ["--learning-rate", search["learning_rate"]]
    given = json.loads(run(*command, *same, "--json").out)
    files = [Path(one["checkpoint"][0], "model.safetensors") for one in (result, given)]
    assert files[0].read_bytes() == files[1].read_bytes()

    # The dense model's search stands beside the ticket's, whatever rates the two have found.
    place = command.index("--ticket")
    dense = [*command[:place], *command[place + 2 :], "--dense", "--find-learning-rate"]
    beside = json.loads(run(*dense, "--json").out)["beside"]
    assert [one["mean"] for one in beside] == [result["mean"]]


def test_an_interrupted_search_goes_on(bare_bert: Path) -> None:
    config = config_of(bare_bert, epochs=3, find_learning_rate=True, checkpoint_every=2)
    whole = finetune(config, output_dir=Path("whole"))
    again = interrupted(config, Path("again"), at=11)
    assert again.rate_search == whole.rate_search
    assert weights(again) == weights(whole)
    Path("again/result.json").unlink()
    tried = Path("again/learning-rates.json")
    before = tried.stat().st_mtime_ns
    assert finetune(config, output_dir=Path("again")).rate_search == whole.rate_search
    assert tried.stat().st_mtime_ns == before


def test_both_share_what_is_held_out_and_numbers_and_questions_do_too(bare_bert: Path) -> None:
    rows = [{"text": f"{WORDS[i % 40]} {WORDS[i // 2]}", "label": i / 7} for i in range(40)]
    Path("numbers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changes = {"train": "numbers.jsonl", "dev": None, "find_learning_rate": True, "patience": 1}
    result = finetune(config_of(bare_bert, epochs=2, **changes))
    assert result.rate_search
    assert (result.rate_search.metric, result.rate_search.examples) == ("pearson", 6)
    assert result.train_examples == 26
    squad_folder(Path("squad"))
    config = FinetuneConfig(
        task="squad", data_dir="squad", model=str(bare_bert), dense=True, find_learning_rate=True
    )
    with pytest.raises(TaskError, match=r"out \(1; at least 10 .*; leave out --find-learn"):
        finetune(config)


def test_rates_and_steps() -> None:
    assert rates_around(1e-3) == (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    assert rates_around(6.9e-5) == (6.9e-6, 2.1e-5, 6.9e-5, 2.1e-4, 6.9e-4)
    sst2 = TASKS["sst2"]  # 3 epochs of 32
    assert trial_steps(sst2, 800, 94) == 75
    assert trial_steps(sst2, 50_000, 6315) == 1263
    found = RateSearch(1e-3, "accuracy", 10, 5, [TriedRate(1e-3, 0.5, None)], ["x"])
    assert RateSearch.from_dict(json.loads(json.dumps(vars(found), default=vars))) == found


def test_a_rate_at_the_edge_and_one_that_diverges_are_said(bare_bert: Path) -> None:
    config = config_of(bare_bert, epochs=1, find_learning_rate=True)
    watcher = Interrupting(-1)
    with pytest.raises(UsageError, match="leave out --learning-rate"):
        config_of(bare_bert, find_learning_rate=True, learning_rate=1.0)
    result = finetune(config, watcher=watcher)
    assert result.rate_search
    is_at_edge = result.rate_search.learning_rate in (0.0002, 0.02)
    assert any("of those that were tried" in note for note in watcher.notes) == is_at_edge
    assert all(math.isfinite(one.score or 0) for one in result.rate_search.tried)


@pytest.mark.slow
def test_a_killed_search_ends_as_one_that_was_not(bare_bert: Path, tmp_path: Path) -> None:
    config = config_of(bare_bert, epochs=2, find_learning_rate=True)
    whole = finetune(config, output_dir=Path("whole"))
    words = ["finetune", "own", "--train", tmp_path / "own.jsonl", "--dev", tmp_path / "dev.jsonl"]
    words += ["--model", bare_bert, "--dense", "--batch-size", 8, "--threads", 1, "--epochs", 2]
    words += ["--find-learning-rate", "--output-dir", tmp_path / "run", "--json"]
    process = processes.start([*words, "--checkpoint-every", 1], tmp_path)
    while process.is_alive() and not Path("run/learning-rates.json").exists():
        time.sleep(0.001)
    process.kill()
    process.join()
    process = processes.start(words, tmp_path)
    process.join()
    assert process.exitcode == 0, Path("err").read_text()
    assert json.loads(Path("out").read_text())["scores"] == whole.scores
    assert Path("run/seed-1/model.safetensors").read_bytes() == weights(whole)
