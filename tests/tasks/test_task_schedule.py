"""How fast and how long a model is fine-tuned by default, and that it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
from command_line import Run
from samples import examples_file, own_config

from tamtctl.comparison.config import CompareConfig
from tamtctl.foundations.errors import ChangedInputsError, UsageError
from tamtctl.tasks.finetuning import schedule as task_schedule
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.schedule import Wishes, epochs_for, rate_for, schedule_for
from tamtctl.tasks.registry import TASKS
from tamtctl.training.schedules import warmed_up

SST2 = TASKS["sst2"]
AS_ASKED = {"learning_rate": 3e-4, "epochs": 2, "batch_size": 7}


pytestmark = pytest.mark.usefixtures("working_folder")


def test_the_wider_a_model_the_smaller_its_rate_within_limits() -> None:
    rates = [rate_for(width) for width in (1, 64, 128, 256, 384, 512, 768, 1024, 8192)]
    assert all(wide <= narrow for narrow, wide in pairwise(rates))
    assert (rates[0], rates[-1]) == (task_schedule.LARGEST_RATE, task_schedule.LEAST_RATE)
    assert 1e-3 <= rate_for(128) <= 2e-3
    assert 2e-5 <= rate_for(768) <= 5e-5  # what everybody takes for BERT-base
    assert rate_for(256) > 2 * rate_for(512)


def test_the_fewer_the_examples_the_more_epochs_within_limits() -> None:
    counts = (1, 30, 300, 1000, 3000, 10_000, 67_000, 10**6)
    epochs = [epochs_for(SST2, count, 32) for count in counts]
    assert all(many <= few for few, many in pairwise(epochs))
    assert (epochs[0], epochs[-1]) == (task_schedule.MOST_EPOCHS, SST2.epochs)
    steps = epochs_for(SST2, 1000, 32) * 32
    assert task_schedule.LEAST_STEPS <= steps < task_schedule.LEAST_STEPS + 32
    assert epochs_for(TASKS["squad"], 10**5, 16) == 2
    assert epochs_for(SST2, 3000, 8) < epochs_for(SST2, 3000, 32)


@pytest.mark.parametrize("recipe", ["auto", "paper"])
@pytest.mark.parametrize("name", AS_ASKED)
def test_what_is_asked_for_wins_and_nothing_else_changes(recipe: str, name: str) -> None:
    value = AS_ASKED[name]
    usual = vars(schedule_for(SST2, 128, 10**5, Wishes(recipe=recipe)))
    asked = vars(schedule_for(SST2, 128, 10**5, Wishes(recipe=recipe, **{name: value})))  # type: ignore[arg-type]
    assert asked["origin"].startswith(f"{name.replace('_', ' ')} as asked for, else ")
    assert asked | {"origin": ""} == usual | {name: value, "origin": ""}


def test_the_papers_recipe_is_the_tables() -> None:
    for task in TASKS.values():
        paper = schedule_for(task, 128, 100, Wishes(recipe="paper", limit=100))
        values = (paper.learning_rate, paper.epochs, paper.batch_size, paper.warm_up)
        assert values == (task.learning_rate, task.epochs_for(100), task.batch_size, 0)
    assert schedule_for(SST2, 128, 10**5, Wishes(recipe="paper")).epochs == 3


@pytest.mark.parametrize("first", [0, 1, 7])
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(first: int) -> None:
    rates = [warmed_up(2.0, step, 40, first) for step in range(41)]
    rising, falling = np.linspace(0, 2, first + 1)[1:], np.linspace(2, 0, 41 - first)
    np.testing.assert_allclose(rates, [*rising, *falling], atol=1e-12)


def test_the_plan_says_the_values_and_where_they_are_from(bare_bert: Path, run: Run) -> None:
    data = str(examples_file(Path("own.jsonl")))
    words = ["finetune", "--train", data, "--dev", data, "--dense", "--model", str(bare_bert)]
    words += ["--threads", "1", "--epochs", "1"]
    said = " ".join(run(*words).err.split())
    usual = "for a width of 16 and 24 examples"
    assert f"rate 0.002, warm-up 10% (epochs as asked for, else {usual})" in said
    said = " ".join(run(*words, "--recipe", "paper").err.split())
    assert "rate 2e-05, warm-up 0% (epochs as asked for, else the paper's)" in said
    refused = run(*words, "--recipe", "papier")
    assert refused.code == 2
    assert "--recipe must be one of auto, paper, got 'papier'; did you mean paper?" in refused.err


def test_a_run_by_another_rule_is_another_run(
    bare_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = own_config(bare_bert, dense=True, learning_rate=None)
    first, given = finetune(config), finetune(config, output_dir="given")
    assert finetune(config).already_done
    monkeypatch.setattr(task_schedule, "LARGEST_RATE", 1e-3)  # as of another version
    second = finetune(config)
    assert (second.already_done, second.run_folder != first.run_folder) == (False, True)
    with pytest.raises(ChangedInputsError, match="the rate and length of the training changed"):
        finetune(config, output_dir=given.run_folder)
    with pytest.raises(UsageError, match="holds no run of this configuration"):
        finetune(
            own_config(bare_bert, dense=True, learning_rate=None, recipe="paper"),
            output_dir="given",
        )
    rates = [
        _facts(result.checkpoint[0])["training"]["learning_rate"] for result in (first, second)
    ]
    assert rates == [2e-3, 1e-3]


def _facts(checkpoint: Path) -> dict[str, dict[str, object]]:
    facts: dict[str, dict[str, object]] = json.loads((checkpoint / "metrics.json").read_text())
    return facts


def test_a_tiny_model_learns_by_default_and_warms_up(bare_bert: Path) -> None:
    data = str(examples_file(Path("many.jsonl"), 120))
    values = {"train": data, "dev": data, "dense": True, "batch_size": None, "learning_rate": None}
    found = finetune(own_config(bare_bert, **values, epochs=None))
    assert found.mean > 0.95
    lines = (found.checkpoint[0] / "metrics.jsonl").read_text().splitlines()
    rates = {line["step"]: line["learning_rate"] for line in map(json.loads, lines)}
    warm_up = found.steps // 10
    assert rates[found.steps] == pytest.approx(2e-3 / (found.steps - warm_up))
    assert rates[10] == pytest.approx(2e-3 * (1 - (9 - warm_up) / (found.steps - warm_up)))
    paper = finetune(own_config(bare_bert, **values, epochs=found.epochs, recipe="paper"))
    assert paper.mean < 0.75


def test_glues_numbers_are_learnt_around_their_mean_but_by_the_papers_recipe(
    bare_bert: Path,
) -> None:
    rows = [f"{score}\tthe list\tthe {word}" for score in (3, 4, 5) for word in tiny.WORDS[:6]]
    for split in ("train", "dev"):
        Path(f"{split}.tsv").write_text("\n".join(["score\tsentence1\tsentence2", *rows]))
    config = FinetuneConfig(
        task="stsb", data_dir=".", model=str(bare_bert), dense=True, learning_rate=1e-6, threads=1
    )
    means = []
    for recipe in ("auto", "paper"):
        checkpoint = finetune(replace(config, recipe=recipe, epochs=1)).checkpoint[0]
        lines = (checkpoint / "predictions.jsonl").read_text().splitlines()
        means.append(np.mean([json.loads(line)["prediction"] for line in lines]))
    assert abs(means[0] - 4) < 1  # of labels that go from 3 to 5
    assert abs(means[1]) < 2


def test_a_comparison_fine_tunes_by_the_same_rule(bare_bert: Path) -> None:
    rows = ["sentence\tlabel", *(f"the {word}\t{i % 2}" for i, word in enumerate(tiny.WORDS[:8]))]
    for split in ("train", "dev"):
        Path(f"{split}.tsv").write_text("\n".join(rows))
    config = CompareConfig(
        tickets=("any",), tasks=("sst2",), data_dir=".", task_epochs=1, threads=1
    )
    found = finetune(config.finetune_config("sst2", str(bare_bert)))
    assert found.training is not None
    assert (found.training.learning_rate, found.training.epochs) == (rate_for(16), 1)
    assert finetune(
        FinetuneConfig(
            task="sst2", data_dir=".", model=str(bare_bert), dense=True, epochs=1, threads=1
        )
    ).already_done
