"""What is seen of a search while it runs, and that it is the same search whether seen or not."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from models_left import no_model_is_left
from small_search import STEPS, bits, command, interrupted, small_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture
def config(tiny_model: Path, text_file: Path) -> SearchConfig:
    return small_config(tiny_model, text_file, objective="mlm+kd", dropout=True)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_evaluating_and_saving_leave_the_ticket_as_it_is(
    config: SearchConfig, tmp_path: Path
) -> None:
    unseen = search(config, output_dir=tmp_path / "unseen")
    watched = replace(config, eval_every=7, checkpoint_every=3, log_to="tensorboard")
    assert watched.hash == config.hash
    seen = search(watched, output_dir=tmp_path / "seen")
    assert bits(seen.ticket) == bits(unseen.ticket)
    evaluated = [line for line in metrics(tmp_path / "seen") if line["eval_losses"]]
    assert [line["step"] for line in evaluated] == list(range(7, STEPS + 1, 7))
    assert all(line["eval_losses"].keys() == {"mlm", "kd"} for line in evaluated)


def test_a_finished_search_leaves_no_model_in_memory(config: SearchConfig) -> None:
    search(config)
    with no_model_is_left():
        search(replace(config, seed=2))


def test_the_last_evaluation_is_the_held_out_loss_of_the_ticket(
    config: SearchConfig, tmp_path: Path
) -> None:
    result = search(replace(config, eval_every=STEPS // 2), output_dir=tmp_path / "run")
    first, last = (sum(line["eval_losses"].values()) for line in metrics(tmp_path / "run")
                   if line["eval_losses"])  # fmt: skip
    assert last == pytest.approx(result.losses["ticket"], rel=1e-12)
    assert first != last


def test_patience_ends_the_search_and_says_so(config: SearchConfig, tmp_path: Path) -> None:
    # At this rate the mask does not change, so that no evaluation is better than the first.
    still = replace(config, learning_rate=1e-12, eval_every=3, patience=4)
    result = search(still, output_dir=tmp_path / "run")
    assert result.stopped_early
    assert result.steps == 3 * (1 + 4)
    assert metrics(tmp_path / "run")[-1]["is_last"]
    assert Ticket.load(result.ticket).metrics["stopped_early"] is True
    improving = search(replace(config, eval_every=10, patience=9), output_dir=tmp_path / "all")
    assert not improving.stopped_early
    assert "stopped_early" not in Ticket.load(improving.ticket).metrics


def test_patience_counts_on_through_an_interruption(config: SearchConfig, tmp_path: Path) -> None:
    still = replace(config, learning_rate=1e-12, eval_every=3, patience=4, checkpoint_every=1)
    interrupted(still, tmp_path / "run", 10)
    result = search(still, output_dir=tmp_path / "run")
    assert (result.resumed_from, result.steps) == (9, 15)


def test_tensorboard_shows_every_step_once(config: SearchConfig, tmp_path: Path) -> None:
    watched = replace(config, eval_every=20, checkpoint_every=15, log_to="tensorboard")
    interrupted(watched, tmp_path / "run", 25)
    search(watched, output_dir=tmp_path / "run")
    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    lines = metrics(tmp_path / "run")
    for name in ("loss", "learning_rate", "flips", "tokens_per_second"):
        found = {event.step: event.value for event in shown.Scalars(name)}
        assert found == pytest.approx({line["step"]: line[name] for line in lines}, rel=1e-6)
        assert len(shown.Scalars(name)) == len(lines)
    for term in ("mlm", "kd"):
        assert [event.step for event in shown.Scalars(f"terms/{term}")] == [
            line["step"] for line in lines
        ]
        assert [event.step for event in shown.Scalars(f"eval_losses/{term}")] == [20, 40]


def test_what_is_not_installed_is_said_at_once(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    with pytest.raises(UsageError, match="pip install tensorboard"):
        search(replace(config, log_to="tensorboard"), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_person_sees_the_evaluations_and_the_early_end(run: Run, config: SearchConfig) -> None:
    options = ("--eval-every", 3, "--patience", 2, "--learning-rate", 1e-12)
    lines = [arg for arg in command(config, *options) if arg != "--json"]
    done = run(*lines)
    assert done.code == 0, done.err
    assert "step 3/40" in done.err
    assert done.err.count("held-out loss") == 3
    assert "Stopped early, as --patience asks; the ticket is that of the last step." in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--patience 2", "give --eval-every, too"),
        ("--eval-every 0", "--eval-every must be at least 1"),
        ("--checkpoint-every -1", "--checkpoint-every must be at least 1"),
        ("--log-to weaver", "--log-to must be one of tensorboard, wandb, trackio, mlflow"),
        ("--method magnitude --eval-every 5", "--eval-every is for methods that train"),
        ("--method obs --learning-rate 0.1", "--learning-rate is for methods that train"),
        ("--method obs --steps 5", "--steps is for methods that train, not for obs"),
        ("--method imp --eval-every 5", "--eval-every is for --method tamt"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: str, message: str, run: Run) -> None:
    done = run("search", "--sparsity", "0.5", *options.split())
    assert done.code == 2
    assert message in done.err
