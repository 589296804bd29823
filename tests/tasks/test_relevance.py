"""How relevant a passage is to a query: grades, metrics over queries, and a CrossEncoder."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from sentence_models import similar_pairs
from sentence_transformers import CrossEncoder
from sklearn.metrics import ndcg_score  # type: ignore[import-untyped]

from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.metrics import metrics, resampled_metrics, standard_errors
from tamtctl.tasks.kinds.relevance import Judgement
from tamtctl.tasks.labelled.opening import open_own_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import own_task

pytestmark = pytest.mark.usefixtures("working_folder")

TASK = own_task("own", ("query", "passage"), "label", "relevance")


def judged(*queries: list[float]) -> Examples:
    """Examples of queries with passages of these grades."""
    labels = [Judgement(grade, f"q{i}") for i, grades in enumerate(queries) for grade in grades]
    return Examples([""] * len(labels), (), labels)


def pairs(name: str, queries: int, seed: int = 0, high: int = 1) -> Path:
    """Queries on a topic, with passages that have its word or not."""
    words, lines = random.Random(seed), []
    for number in range(queries):
        topic, other = words.sample(["list", "file", "data", "type"], 2)
        query = f"{topic} {tiny.WORDS[number % 30]} {tiny.WORDS[number // 30]}"
        for grade, word in ((high, topic), (0, other), (0, "time")):
            passage = f"the {word} of {words.choice(tiny.WORDS)}"
            lines.append(json.dumps({"query": query, "passage": passage, "label": grade}))
    Path(name).write_text("\n".join(lines))
    return Path(name)


def opened(train: Path, columns: tuple[str, ...] = ("query", "passage")) -> TaskData:
    return open_own_task(
        "own", train, None, text_columns=columns, label_column="label", kind="relevance"
    )


# --- metrics ---------------------------------------------------------------------------------


def test_metrics_are_means_over_queries_that_have_an_order() -> None:
    examples = judged([1, 0, 0], [0, 3, 1, 0], [0, 0], [2])
    said = [0.2, 0.9, 0.1, 0.4, 0.3, 0.8, 0.1, 0.5, 0.6, 0.7]
    found = metrics(TASK, said, examples)
    first = ndcg_score([[1, 0, 0]], [said[:3]], k=10)
    second = ndcg_score([[0, 3, 1, 0]], [said[3:7]], k=10)
    assert found["ndcg@10"] == pytest.approx((first + second) / 2)
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)
    kind = kind_of(TASK)
    assert kind.label_notes(examples, "dev") == [
        "2 of 4 dev queries have passages of but one grade; the metrics leave these out"
    ]
    assert kind.obstacle(examples) is None
    assert "no dev query has passages of different grades" in str(kind.obstacle(judged([0], [1])))


def test_equal_scores_earn_nothing_by_the_order_of_the_file() -> None:
    for grades in ([1.0, 0, 0, 0], [0.0, 0, 0, 1]):
        found = metrics(TASK, [0.5] * 4, judged(grades))
        expected = np.mean([1 / math.log2(rank + 2) for rank in range(4)])
        assert found["ndcg@10"] == pytest.approx(expected)
        assert found["mrr@10"] == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4]))
    eleventh = judged([0.0] * 10 + [1.0])
    assert metrics(TASK, list(range(11, 0, -1)), eleventh)["mrr@10"] == 0


def test_ties_count_as_all_their_orders() -> None:
    grades, said = [0.0, 1.0, 2.0, 0.0, 1.0, 0.0], [0.9, 0.5, 0.5, 0.5, 0.1, 0.5]
    tied = [grade for grade, score in zip(grades, said, strict=True) if score == 0.5]
    ranks = [
        2 + next(place for place, grade in enumerate(order) if grade)
        for order in itertools.permutations(tied)
    ]
    found = metrics(TASK, said, judged(grades))
    assert found["mrr@10"] == pytest.approx(np.mean(1 / np.array(ranks)))


def test_queries_are_drawn_and_not_pairs() -> None:
    queries = [[1.0, 0.0, 0.0]] * 40
    examples = judged(*queries)
    said = np.random.default_rng(0).random(120).tolist()
    found = resampled_metrics(TASK, said, examples, 4)
    each = [
        metrics(TASK, said[3 * i : 3 * i + 3], judged(queries[0]))["ndcg@10"] for i in range(40)
    ]
    generator = np.random.Generator(np.random.Philox(key=0))
    wanted = [np.mean(np.array(each)[generator.integers(40, size=40)]) for _ in range(4)]
    assert found["ndcg@10"] == pytest.approx(wanted)
    errors = standard_errors(TASK, said, examples)
    assert errors["ndcg@10"] == pytest.approx(np.std(each) / math.sqrt(40), rel=0.2)
    few = standard_errors(TASK, said[:60], judged(*queries[:20]))
    assert few == {"ndcg@10": None, "mrr@10": None}


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (["yes", "no"], "a.jsonl:1: the label 'yes' is no grade"),
        ([1, -1], "a.jsonl:2: the label -1 is no grade, 0 of what is not relevant"),
        ([1, 1], "every label is 1, and passages of different grades are needed"),
    ],
)
def test_labels_that_are_no_grades_are_refused(labels: list[Any], line: str) -> None:
    rows = [json.dumps({"query": "a", "passage": "b", "label": label}) for label in labels]
    Path("a.jsonl").write_text("\n".join(rows))
    with pytest.raises(TaskError, match=line):
        opened(Path("a.jsonl"))


def test_pairs_are_needed_and_grades_have_a_highest() -> None:
    train = pairs("a.jsonl", 12, high=3)
    with pytest.raises(UsageError, match="relevance reads two texts: give --text-column twice"):
        opened(train, ("query",))
    data = opened(train)
    assert list(data.task.label_range or ()) == [0, 3]
    with pytest.raises(TaskError, match="here: the label 4 is no grade from 0 to 3"):
        kind_of(data.task).label("here", 4, ("a", "b"))


# --- from a file to a CrossEncoder -----------------------------------------------------------


def test_a_checkpoint_is_a_cross_encoder(bare_bert: Path, run: Run) -> None:
    train = pairs("train.jsonl", 60, high=2)
    columns = "--text-column query --text-column passage --label-kind relevance".split()
    options = "--dense --epochs 8 --learning-rate 0.01 --batch-size 16 --threads 1 --json".split()
    done = run("finetune", "own", "--train", train, "--model", bare_bert, *columns, *options)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["metric"], result["labels"]) == ("ndcg@10", "relevance, 0 to 2")
    assert result["constant_answer"] == pytest.approx(1 / 3, abs=0.02)
    assert result["mean"] > 0.8 > result["constant_score"]
    assert result["standard_error"] is None  # of twelve queries nobody can tell
    checkpoint = Path(result["checkpoint"][0])
    again = run("evaluate", checkpoint, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["score"] == pytest.approx(result["mean"])
    said = json.loads(run("evaluate", checkpoint, "--predict", "train.jsonl", "--json").out)
    texts = [tuple(one["text"]) for one in said["predictions"]]
    ours = [one["prediction"] for one in said["predictions"]]
    cross = CrossEncoder(str(checkpoint), device="cpu")
    assert isinstance(cross.activation_fn, torch.nn.Sigmoid)
    assert cross.predict(texts) == pytest.approx(ours, abs=1e-5)
    similar_pairs()
    embedded = run("evaluate", checkpoint, "--task", "stsb-zero-shot", "--data-dir", ".", "--json")
    assert any("is a reranker" in note for note in json.loads(embedded.out)["notes"])
    again_from = run("finetune", "own", "--train", train, "--model", checkpoint, *columns, *options)
    assert again_from.code == 0, again_from.err
    assert not any("a new one is trained" in note for note in json.loads(again_from.out)["notes"])
