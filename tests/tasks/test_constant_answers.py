"""What a score stands beside: a constant answer, the dense model, and whether it says anything."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from samples import squad_folder, ticket_for
from tiny import WORDS

from tamtctl.data.padded_batches import Features
from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.examples import Answers, Examples
from tamtctl.tasks.finetuning.learnt_nothing import Finding, loss_hardly_moved, no_better, sentence
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.table import Metric
from tamtctl.tasks.registry import TASKS, own_task

TRAINED = "--epochs 15 --learning-rate 0.01 --batch-size 8 --threads 1".split()
UNTRAINED = "--epochs 1 --learning-rate 1e-9 --batch-size 8 --threads 1".split()


pytestmark = pytest.mark.usefixtures("working_folder")


def examples(labels: list[Any]) -> Examples:
    return Examples([str(i) for i in range(len(labels))], (["x"] * len(labels),), labels)


def files(shares: tuple[int, int] = (1, 1), count: int = 40) -> list[str]:
    """Sentences of two classes that say which; the second file begins elsewhere."""
    generator = random.Random(0)
    for name in ("train.jsonl", "dev.jsonl"):
        kinds = ("list",) * shares[0] + ("file",) * shares[1]
        rows = [
            {"text": " ".join([*generator.choices(WORDS[:20], k=3), kind]), "label": kind}
            for kind in (kinds[i % len(kinds)] for i in range(count))
        ]
        Path(name).write_text("\n".join(map(json.dumps, rows)))
    return ["--train", "train.jsonl", "--dev", "dev.jsonl"]


# --- the constant answer ---------------------------------------------------------------------


def test_a_constant_answer_is_scored_by_the_metrics_of_the_task() -> None:
    train, dev = examples([1, 1, 1, 0]), {"": examples([0, 1, 1, 1, 0])}
    mrpc = ConstantAnswer.of(TASKS["mrpc"], train)
    assert mrpc.value == "equivalent"
    assert mrpc.metrics(TASKS["mrpc"], dev) == pytest.approx(
        {"accuracy": 3 / 5, "f1": 2 * 3 / (5 + 3)}
    )
    cola = ConstantAnswer.of(TASKS["cola"], train).metrics(TASKS["cola"], dev)
    assert cola == {"matthews_correlation": 0}
    numbers = ConstantAnswer.of(TASKS["stsb"], examples([1.0, 4.0]))
    assert numbers.value == 2.5
    assert numbers.metrics(TASKS["stsb"], {"": examples([0.5, 3.0])}) == {
        "pearson": 0,
        "spearman": 0,
    }
    answers = [Answers(("two", "2"), (0, 0)), Answers(("two",), (0,)), Answers(("a",), (0,))]
    span = ConstantAnswer.of(TASKS["squad"], examples(answers))
    assert span.value == "two"
    found = span.metrics(TASKS["squad"], {"": examples([Answers(("two of",), (0,)), *answers[:1]])})
    assert found == pytest.approx({"exact_match": 0.5, "f1": (1 + 2 / 3) / 2})


def test_its_loss_is_the_lowest_that_a_constant_prediction_has() -> None:
    def features(labels: torch.Tensor) -> Features:
        return Features([[1]] * len(labels), None, labels, pad_id=0)

    task = replace(own_task("own", ("t",), "l", "classification"), labels=("a", "b"))
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([0.75, 0.25]).log().expand(4, 2)
    wanted = torch.nn.functional.cross_entropy(logits, labels)
    assert kind_of(task).constant_loss(features(labels)) == pytest.approx(float(wanted))
    numbers = torch.tensor([1.0, 2.0, 6.0])
    assert kind_of(TASKS["stsb"]).constant_loss(features(numbers)) == pytest.approx(14 / 3)
    places = torch.tensor([[0, 1], [0, 2]])
    assert kind_of(TASKS["squad"]).constant_loss(features(places)) == pytest.approx(math.log(2) / 2)


def test_what_is_said_of_seeds_that_learnt_nothing() -> None:
    always = ConstantAnswer("no")
    assert loss_hardly_moved(0.5, 0.69) is None
    assert loss_hardly_moved(0.68, 0.69)
    assert loss_hardly_moved(0.1, 0.0) is None  # all labels are the same: nothing can move
    assert no_better(Metric("accuracy"), "accuracy", 0.55, 0.02, always, 0.5) is None
    near = no_better(Metric("accuracy"), "accuracy", 0.51, 0.02, always, 0.5)
    assert near
    assert not near.is_untrained
    assert "has accuracy 0.5100 ± 0.0200, and always answering 'no' has 0.5000" in near.why
    assert no_better(Metric("accuracy"), "accuracy", 0.51, None, always, 0.5) is None
    dead = Finding(True, "gives every dev example the same answer, 'no'")
    assert sentence([(1, None), (2, None)]) is None
    assert sentence([(1, None), (2, dead), (3, near)]) == (
        f"2 of 3 seeds did not train: seed 2 {dead.why}; seed 3 {near.why}"
    )
    assert sentence([(7, near)]) == f"seed 7 did no better than a constant answer: it {near.why}"


# --- the commands ----------------------------------------------------------------------------


def test_a_result_stands_beside_the_constant_answer_everywhere(bare_bert: Path, run: Run) -> None:
    command = ["finetune", *files((3, 1)), "--model", bare_bert, "--dense", *TRAINED]
    shown = run(*command).out
    assert "± s.e." in shown
    assert "majority    always 'list', the most frequent of the training examples" in shown
    assert "did not train" not in shown
    result = json.loads(run(*command, "--json").out)
    assert (result["constant_answer"], result["constant_score"]) == ("list", 0.75)
    assert result["metrics"]["macro_f1"]["constant"] == pytest.approx(0.75 / 1.75)
    assert result["untrained"] is None
    (checkpoint,) = result["checkpoint"]
    facts = json.loads((Path(checkpoint) / "metrics.json").read_text())
    assert facts["constant"]["scores"]["accuracy"] == 0.75
    evaluated = json.loads(run("evaluate", checkpoint, "--json").out)
    assert evaluated["standard_errors"] == pytest.approx(facts["standard_errors"])
    assert result["standard_error"] == pytest.approx(evaluated["standard_error"])
    assert evaluated["constant_scores"] == pytest.approx(facts["constant"]["scores"])
    assert evaluated["constant_split"] == "training"
    assert "s.e. (majority 0.7500)" in run("evaluate", checkpoint).out

    del facts["constant"]  # as of another version
    (Path(checkpoint) / "metrics.json").write_text(json.dumps(facts))
    assert json.loads(run("evaluate", checkpoint, "--json").out)["constant_split"] == "dev"


def test_a_run_that_did_not_train_says_so(bare_bert: Path, run: Run) -> None:
    command = ["finetune", *files(), "--model", bare_bert, "--dense", *UNTRAINED]
    shown = run(*command).out
    (line,) = [line for line in shown.splitlines() if line.startswith("seed 1 did not train: it ")]
    assert line.endswith("; try --find-learning-rate, more --epochs, or more examples")
    quiet = run(*command, "-q")
    assert quiet.err == line + "\n"
    assert len(quiet.out.split()) == 1
    result = json.loads(run(*command, "--json").out)
    assert result["untrained"] == line.partition("; try")[0]
    evaluated = run("evaluate", result["checkpoint"][0]).err
    assert "fine-tune again with --find-learning-rate" in evaluated


def test_a_short_run_whose_score_is_better_did_train(bare_bert: Path, run: Run) -> None:
    command = ["finetune", *files(count=80), "--model", bare_bert, "--dense", "--threads", "1"]
    short = "--epochs 2 --learning-rate 0.01 --batch-size 40".split()
    result = json.loads(run(*command, *short, "--json").out)
    facts = json.loads((Path(result["checkpoint"][0]) / "metrics.json").read_text())
    # The loss at the end is a mean over all steps here.
    assert facts["training_loss"] > 0.95 * facts["constant"]["loss"]
    accuracy = result["metrics"]["accuracy"]
    assert accuracy["mean"] > accuracy["constant"] + result["standard_error"]
    assert result["untrained"] is None


def test_seeds_are_told_apart(bare_bert: Path, run: Run) -> None:
    command = ["finetune", *files(), "--model", bare_bert, "--dense", "--seeds", "1,2", *UNTRAINED]
    assert "2 of 2 seeds did not train: seed 1 " in run(*command).out


def test_numbers_that_hardly_vary_and_questions(bare_bert: Path, run: Run) -> None:
    rows = [{"text": f"{WORDS[i]} {WORDS[-i]}", "label": i / 7} for i in range(30)]
    Path("numbers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["finetune", "--train", "numbers.jsonl", "--model", bare_bert, "--dense", *UNTRAINED]
    result = json.loads(run(*command, "--json").out)
    assert result["constant_score"] == 0
    assert "did not train" in result["untrained"]
    squad = ["finetune", "squad", "--data-dir", squad_folder(Path("squad")), "--model", bare_bert]
    result = json.loads(run(*squad, "--dense", *UNTRAINED, "--json").out)
    assert (result["constant_answer"], result["constant_score"]) == ("a list", 1)
    assert result["untrained"]


def test_the_dense_model_and_tickets_of_the_same_setting_stand_side_by_side(
    bare_bert: Path, run: Run
) -> None:
    options = ["--model", bare_bert, *"--epochs 1 --learning-rate 0.01 --batch-size 8".split()]
    options += ["--threads", 1]
    data = files()
    ticket = str(ticket_for(bare_bert, Path("mine")))
    alone = json.loads(run("finetune", *data, *options, "--ticket", ticket, "--json").out)
    assert alone["beside"] == []
    shown = run("finetune", *data, *options, "--dense")
    assert "ticket      mine, sparsity 0.5" in shown.out
    dense = json.loads(run("finetune", *data, *options, "--dense", "--json").out)
    assert [one["mean"] for one in dense["beside"]] == [alone["mean"]]

    # The same command again knows what has become known since, whatever the files are called.
    Path("train.jsonl").rename("other.jsonl")
    again = ["finetune", "else", "--train", "other.jsonl", "--dev", "dev.jsonl", *options]
    beside = json.loads(run(*again, "--ticket", ticket, "--json").out)["beside"]
    assert [(one["ticket"], one["mean"]) for one in beside] == [(None, dense["mean"])]
    assert f"dense       accuracy {dense['mean']:.4f}" in run(*again, "--ticket", ticket).out
    evaluated = json.loads(run("evaluate", dense["checkpoint"][0], "--json").out)
    assert {one["mean"] for one in evaluated["beside"]} == {alone["mean"]}

    for change in (["--seeds", "2"], ["--batch-size", "4"], ["--limit", "20"], ["--epochs", "2"]):
        other = json.loads(run(*again, "--ticket", ticket, *change, "--json").out)
        assert other["beside"] == [], change
    (Path("dev.jsonl")).write_text(
        Path("dev.jsonl").read_text() + '\n{"text": "a", "label": "file"}'
    )
    other = json.loads(run(*again, "--ticket", ticket, "--json").out)
    assert other["beside"] == []


def test_a_damaged_run_is_known_to_nobody(bare_bert: Path, run: Run) -> None:
    options = [*files(), "--model", bare_bert, *UNTRAINED, "--json"]
    dense = json.loads(run("finetune", *options, "--dense").out)
    metrics = Path(dense["checkpoint"][0]) / "metrics.json"
    for content in ("{", "[]", '{"setting": 1}', metrics.read_text().replace('"scores"', '"x"')):
        metrics.write_text(content)
        ticket = str(ticket_for(bare_bert, Path("mine")))
        found = json.loads(run("finetune", *options, "--ticket", ticket, "--force").out)
        assert found["beside"] == []
