"""A dev split that is made of the training set: which examples, and that they are scored later."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from tiny import WORDS

from tamtctl.foundations.errors import TaskError
from tamtctl.tasks.examples import Answers, Examples
from tamtctl.tasks.labelled.dev_split import DevSplit
from tamtctl.tasks.registry import TASKS, own_task
from tamtctl.tasks.task import Task

OPTIONS = "--dense --batch-size 8 --learning-rate 0.01 --threads 1 --epochs".split()


pytestmark = pytest.mark.usefixtures("working_folder")


def task_of(kind: Any, *columns: str) -> Task:
    return own_task("own", columns or ("text",), "label", kind)


def split(task: Task, texts: Sequence[tuple[str, ...]], labels: Sequence[Any]) -> DevSplit:
    columns = tuple(map(list, zip(*texts, strict=True)))
    examples = Examples([str(i) for i in range(len(labels))], columns, list(labels))
    return DevSplit.of(task, examples, name="a.csv", advice="give a --dev file")


def rows(examples: Examples) -> set[tuple[Any, ...]]:
    return set(zip(*examples.texts, examples.labels, strict=True))


def classifier(*names: str) -> Task:
    return replace(task_of("classification"), labels=names)


def test_it_is_a_fifth_of_every_class_whatever_the_order() -> None:
    def of_table(table: Sequence[tuple[tuple[str, ...], int]]) -> DevSplit:
        return split(classifier("a", "b"), [row[0] for row in table], [row[1] for row in table])

    table = [((f"text {i}",), int(i % 10 == 0)) for i in range(200)]
    one = of_table(table)
    assert (len(one.held_out), len(one.rest)) == (40, 160)
    assert one.held_out.labels.count(1) == 4
    assert rows(one.held_out).isdisjoint(rows(one.rest))
    random.Random(1).shuffle(table)
    other = of_table(table)
    assert rows(other.held_out) == rows(one.held_out)
    more = [*table, *(((f"more {i}",), 0) for i in range(4))]
    kept = rows(of_table(more).held_out) & rows(one.held_out)
    assert len(kept) >= 36  # a few more examples leave most of it as it was


def test_at_most_five_thousand_are_held_out() -> None:
    texts = [(f"text {i}",) for i in range(30_000)]
    found = split(task_of("regression"), texts, [float(i) for i in range(30_000)])
    assert len(found.held_out) == 5_000


def test_one_text_is_never_on_both_sides() -> None:
    generator = random.Random(0)
    names = [generator.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(300)]
    spelt = [(generator.choice([name, name.upper(), f" {name} "]),) for name in names]
    found = split(classifier("a", "b"), spelt, [ord(name) % 2 for name in names])
    sides = [
        {text.strip().lower() for text in one.texts[0]} for one in (found.rest, found.held_out)
    ]
    assert sides[0].isdisjoint(sides[1])
    assert 30 <= len(found.held_out) <= 60

    pairs = [(f"x{i // 2}", f"y{i // 2}")[:: 1 if i % 2 else -1] for i in range(100)]
    found = split(task_of("regression", "a", "b"), pairs, [i / 7 for i in range(100)])
    sorted_pairs = [{tuple(sorted(p)) for p in zip(*one.texts, strict=True)} for one in
                    (found.rest, found.held_out)]  # fmt: skip
    assert sorted_pairs[0].isdisjoint(sorted_pairs[1])

    pairs = [(f"premise {i // 3}", f"hypothesis {i}") for i in range(300)]
    found = split(classifier("a", "b", "c"), pairs, [i % 3 for i in range(300)])
    assert set(found.rest.texts[0]).isdisjoint(found.held_out.texts[0])
    assert len(found.held_out) == 60

    chains = [(f"{n} of {of}", f"{n + 1} of {of}") for n in range(3) for of in range(100)]
    found = split(task_of("regression", "a", "b"), chains, [i / 7 for i in range(300)])
    ours, theirs = ({*one.texts[0], *one.texts[1]} for one in (found.rest, found.held_out))
    assert ours.isdisjoint(theirs)

    answers = [Answers((str(i),), (0,)) for i in range(60)]
    asked = [(f"question {i}", f"paragraph {i % 12}") for i in range(60)]
    found = split(TASKS["squad"], asked, answers)
    assert set(found.rest.texts[1]).isdisjoint(found.held_out.texts[1])
    assert len(found.held_out) == 10


def test_a_text_that_is_there_very_often_does_not_take_all_of_the_split() -> None:
    texts = [("the",)] * 100 + [(word,) for word in WORDS[:20]]
    found = split(classifier("a", "b"), texts, [0] * 110 + [1] * 10)
    assert "the" not in found.held_out.texts[0]
    assert set(found.held_out.labels) == {0, 1}


def test_pairs_with_one_of_a_few_texts_are_split_all_the_same() -> None:
    pairs = [(f"text {i}", f"is it {'ab'[i % 2]}?") for i in range(100)]
    found = split(classifier("a", "b"), pairs, [i % 2 for i in range(100)])
    assert len(found.held_out) == 20
    assert set(found.held_out.texts[0]).isdisjoint(found.rest.texts[0])


def test_few_examples_are_split_sensibly_or_refused() -> None:
    texts = [(word,) for word in WORDS[:10]]
    found = split(classifier("a", "b", "c"), texts, [0] * 7 + [1] * 2 + [2])
    assert sorted(found.held_out.labels) == [0, 1]  # of the third class there is but one
    with pytest.raises(TaskError, match=r"^a.csv: too few different texts .*\(9; .*; give a --dev"):
        split(classifier("a", "b"), [*texts[:9], *texts[:9]], [0, 1] * 9)
    with pytest.raises(TaskError, match="but one text of each class"):
        split(classifier(*WORDS[:10]), texts, list(range(10)))


# --- the commands ----------------------------------------------------------------------------


def write(kind: str, path: str = "own.jsonl") -> str:
    generator = random.Random(3)
    texts = [" ".join(generator.choices(WORDS[:20], k=4)) for _ in range(60)]
    labels: list[Any] = [("list", "file")[i % 2] if kind == "classes" else i / 7 for i in range(60)]
    lines = [
        json.dumps({"text": f"{text} {label}", "label": label})
        for text, label in zip(texts, labels, strict=True)
    ]
    Path(path).write_text("\n".join([*lines, lines[0]]))
    return path


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_with_train_alone_a_part_is_held_out_and_can_be_scored_again(
    kind: str, bare_bert: Path, run: Run
) -> None:
    command = ["finetune", "--train", write(kind), "--model", bare_bert, *OPTIONS, 3]
    shown = run(*command).err
    assert "own.jsonl (49 to train on, 12 dev, held out of it)" in shown
    assert "there is no --dev: 12 of the 61 examples of own.jsonl are held out to score" in shown
    result = json.loads(run(*command, "--json").out)
    assert result["already_done"]
    assert result["has_made_dev"]
    assert (result["train_examples"], result["dev_examples"]) == (49, 12)
    (checkpoint,) = result["checkpoint"]
    facts = json.loads((Path(checkpoint) / "metrics.json").read_text())
    Path("own.jsonl").unlink()
    Path(result["run_folder"]).rename("moved")
    again = json.loads(run("evaluate", f"moved/{Path(checkpoint).name}", "--json").out)
    assert again["examples"] == facts["data"]["validation"]["examples"] == 12
    assert again["metrics"] == pytest.approx(facts["scores"])
    assert not any("are not those" in note for note in again["notes"])


def test_limit_is_of_what_is_left_to_train_on(bare_bert: Path, run: Run) -> None:
    command = ["finetune", "--train", write("classes"), "--model", bare_bert, *OPTIONS, 1, "--json"]
    whole = json.loads(run(*command).out)
    few = json.loads(run(*command, "--limit", 10).out)
    assert (few["train_examples"], few["dev_examples"]) == (10, whole["dev_examples"])
    splits = [Path(one["run_folder"], "dev.jsonl").read_bytes() for one in (whole, few)]
    assert splits[0] == splits[1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "own.jsonl is empty"),
        (
            [{"text": w, "label": w[0]} for w in ("aa", "ab", "bb")],
            "(3; at least 10 are needed)",
        ),
        ([{"text": w, "label": w} for w in WORDS[:12]], "but one text of each class"),
    ],
)
def test_a_file_that_cannot_be_split_is_refused_before_any_work(
    rows: list[Any], message: str, bare_bert: Path, run: Run
) -> None:
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    outcome = run("finetune", "--train", "own.jsonl", "--model", bare_bert, *OPTIONS, 1)
    assert outcome.code == 1
    assert message in outcome.err.splitlines()[-1]
    assert not Path("runs").exists()


def test_one_epoch_is_no_epochs(bare_bert: Path, run: Run) -> None:
    command = ["finetune", "--train", write("classes"), "--model", bare_bert, *OPTIONS, 1]
    assert "1 epoch, 1 step of 61 × up to" in run(*command, "--batch-size", 61).err
