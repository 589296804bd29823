"""The shelves of tasks: every row keeps its promises, and one more is known to every command."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from command_line import Run
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.comparison.levels import Level
from tamtctl.comparison.sections.differences import Difference
from tamtctl.data.padded_batches import Encoded, Features, TaskBatch
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.foundations.estimates import Interval
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.benchmarks.benchmark import Benchmark
from tamtctl.tasks.benchmarks.table import BENCHMARKS, zero_shot_tasks
from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import ModelOutputs, Predictions, TaskKind
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.loading import load_for_training
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES, metrics, standard_errors
from tamtctl.tasks.kinds.predicting import predict
from tamtctl.tasks.kinds.table import (
    KINDS,
    Kind,
    Metric,
    higher_is_better,
    primary_metric,
)
from tamtctl.tasks.registry import TASKS, find_task, own_task
from tamtctl.tasks.task import Task

TAGS = ("about-lists", "about-files", "about-sets")


class Code(TaskKind):
    """Any number of tags for a text: a kind of its own, in as few lines as it takes."""

    def text(self, place: str, value: Any) -> str | tuple[str, ...]:
        return " ".join(value) if isinstance(value, list) else super().text(place, value)

    @property
    def no_label(self) -> list[int]:
        return []

    def label(self, place: str, value: Any, texts: tuple[str, ...]) -> list[int]:
        if not isinstance(value, list) or not set(value) <= set(self.task.labels):
            raise TaskError(f"{place}: {value!r} is no list of tags")
        return [int(tag in value) for tag in self.task.labels]

    def own_value(self, place: str, value: Any) -> Any:
        return value

    @classmethod
    def looks_like(cls, values: Sequence[Any]) -> bool:
        return all(isinstance(value, list) for value in values)

    def with_labels_of(self, file: Path, values: Sequence[Any]) -> Task:
        return replace(self.task, labels=tuple(sorted({tag for tags in values for tag in tags})))

    def label_summary(self, examples: Examples) -> str:
        return f"any of {len(self.task.labels)} tags"

    def head(self) -> dict[str, Any]:
        names = dict(enumerate(self.task.labels))
        ids = {tag: i for i, tag in names.items()}
        return {"id2label": names, "label2id": ids, "problem_type": "multi_label_classification"}

    def encode(self, inputs: TextInputs, examples: Examples) -> Encoded:
        return Encoded(inputs.features(examples.texts, torch.tensor(examples.labels)))

    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        logits = model(**batch.inputs, return_dict=True).logits.float()
        return F.binary_cross_entropy_with_logits(logits, batch.labels.float())

    def predictions(self, examples: Examples, outputs: ModelOutputs) -> Predictions:
        shares = torch.empty(len(examples), len(self.task.labels))
        for batch, output in outputs.batches:
            shares[batch.rows] = output.logits.float().sigmoid()
        return Predictions((shares > 0.5).int().tolist(), shares.tolist())

    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        wrong = torch.tensor(predictions) != torch.tensor(examples.labels)
        return {"tag_errors": float(wrong.double().mean())}

    def constant(self, examples: Examples) -> str:
        counts = Counter(tag for tags in examples.labels for tag in self.label_to_json(tags))
        return " ".join(tag for tag in self.task.labels if 2 * counts[tag] > len(examples))

    def constant_predictions(self, value: str | float, examples: Examples) -> list[list[int]]:
        return [self.prediction_from_json(str(value).split())] * len(examples)

    def constant_loss(self, features: Features) -> float:
        share = features.labels.double().mean(0)
        return float(F.binary_cross_entropy(share, share))

    def prediction_to_json(self, value: list[int]) -> list[str]:
        return [tag for tag, is_there in zip(self.task.labels, value, strict=True) if is_there]

    def prediction_from_json(self, value: Any) -> list[int]:
        return [int(tag in value) for tag in self.task.labels]

    def confidence_to_json(self, confidence: Any) -> Any:
        return dict(zip(self.task.labels, confidence, strict=True))


TOY_KIND = Kind(
    name="tagging",
    summary="any number of tags",
    code=__name__,
    metrics=(Metric("tag_errors", higher_is_better=False),),
    own_metrics=("tag_errors",),
    suffixes=(".jsonl",),
)
TOY = Benchmark(
    task=Task(
        name="toy-tags",
        summary="what a sentence is about",
        kind="tagging",
        columns=("text",),
        label_column="tags",
        labels=TAGS,
        metrics=("tag_errors",),
        folder="toy",
    )
)


@pytest.fixture
def toy() -> Iterator[Benchmark]:
    with KINDS.holding(TOY_KIND), BENCHMARKS.holding(TOY) as row:
        yield row


def tags_folder(folder: Path) -> Path:
    """Sentences that say which tags they have."""
    folder.mkdir()
    for split, count in (("train", 48), ("dev", 40)):
        rows = []
        for number in range(count):
            tags = [tag for bit, tag in enumerate(TAGS) if number >> bit & 1]
            words = [tag.removeprefix("about-").removesuffix("s") for tag in tags]
            rows.append({"text": ["the", tiny.WORDS[number % 30], *words], "tags": tags})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


# --- every row -------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [*BENCHMARKS.values(), TOY], ids=lambda row: row.name)
def test_every_benchmark_has_all_its_facts(row: Benchmark, toy: Benchmark) -> None:
    task = row.task
    assert (row.name, find_task(row.name)) == (task.name, task)
    assert task.summary
    assert task.summary == task.summary.strip(" .")
    assert len(task.columns) in (1, 2)
    assert task.label_column not in task.columns
    assert set(task.metrics) <= {metric.name for metric in KINDS[task.kind].metrics}
    assert task.dev_splits
    assert task.hub or task.folder or row.code
    assert task.learning_rate > 0
    assert min(task.batch_size, task.epochs) >= 1
    assert task.max_length >= 8
    assert len(set(task.labels)) == len(task.labels)
    if row.zero_shot:
        assert zero_shot_tasks()[row.zero_shot] is task
        assert len(task.columns) == 2


RECORDS: dict[str, tuple[Task, list[tuple[tuple[Any, ...], Any]]]] = {
    "classification": (
        replace(own_task("own", ("text",), "label", "classification"), labels=("a", "b")),
        [(("a list",), "a"), (("the file",), "b")],
    ),
    "regression": (
        own_task("own", ("text",), "label", "regression"),
        [(("a list",), 0.5), (("the file",), "2")],
    ),
    "span": (
        TASKS["squad"],
        [(("which", f"the {word} is"), {"text": [word], "answer_start": [4]}) for word in
         ("list", "file")],
    ),
    "relevance": (
        own_task("own", ("query", "passage"), "label", "relevance"),
        [(("a list", "the list"), 1), (("a list", "the file"), "0.5"), (("the file", "set"), 0)],
    ),
    "token-classification": (
        replace(own_task("own", ("text",), "label", "token-classification"), labels=("O", "B-X")),
        [((("a", "list"),), ["O", "B-X"]), ((("the", "new", "file"),), ["O", "O", "B-X"])],
    ),
    "tagging": (TOY.task, [(("a list",), [TAGS[0]]), (("list file",), [TAGS[0], TAGS[1]])]),
}  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS, "tagging"])
def test_every_kind_is_trained_measured_and_read_back(
    kind: str, bare_bert: Path, toy: Benchmark
) -> None:
    row, (task, records) = KINDS[kind], RECORDS[kind]
    code = kind_of(task)
    assert row.summary
    assert code.row is row
    texts, values = zip(*(records * 20)[:40], strict=True)
    labels = [code.label("here", value, text) for text, value in zip(texts, values, strict=True)]
    columns = tuple(map(list, zip(*texts, strict=True)))
    examples = Examples([str(i) for i in range(40)], columns, labels)
    assert code.label_summary(examples)
    with pytest.raises(TaskError, match=r"^here: "):
        code.label("here", {"x": 1}, texts[0])

    torch.manual_seed(0)
    model, missing = load_for_training(task, str(bare_bert))
    assert missing
    inputs = TextInputs.of(model, tiny.tokenizer(), 24)
    encoded = code.encode(inputs, examples)
    batch = next(encoded.features.training_batches(8, seed=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    first = code.loss(model.eval(), batch)
    first.backward()
    optimizer.step()
    assert code.loss(model, batch).item() < first.item()
    assert 0 <= code.constant_loss(encoded.features) < 5

    compute = Compute(torch.device("cpu"), "fp32")
    said = predict(task, model, examples, encoded, batch_size=16, autocast=compute.autocast)
    assert len(said.values) == len(said.confidences) == 40
    found = metrics(task, said.values, examples)
    assert found.keys() == set(task.metrics)
    errors = standard_errors(task, said.values, examples).values()
    assert all((error is None) == (code.units(examples) < MIN_EXAMPLES) for error in errors)

    rows = json.dumps(
        [
            (
                code.prediction_to_json(value),
                code.confidence_to_json(sure),
                code.label_to_json(label),
            )
            for value, sure, label in zip(said.values, said.confidences, labels, strict=True)
        ]
    )
    again = [code.prediction_from_json(value) for value, _, _ in json.loads(rows)]
    wanted = replace(examples, labels=[code.label_from_json(one) for _, _, one in json.loads(rows)])
    assert metrics(task, again, wanted) == found

    constant = ConstantAnswer.of(task, examples)
    assert code.known_constant(json.loads(json.dumps(constant.value))) == constant.value
    assert constant.metrics(task, {"": examples}).keys() == found.keys()
    assert code.are_alike(code.constant_predictions(constant.value, examples), examples)
    hash(code.class_of(labels[0]))
    assert code.no_label is not None


# --- one more row ----------------------------------------------------------------------------


def test_a_toy_benchmark_of_a_toy_kind_is_known_to_every_command(
    toy: Benchmark, tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    folder = tags_folder(Path("toy"))
    words = "finetune toy-tags --dense --data-dir toy --epochs 12 --learning-rate 0.02"
    trained = [*words.split(), *"--batch-size 8 --threads 1 --select best".split()]
    done = run(*trained, "--model", tiny_model, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["metric"], result["labels"]) == ("tag_errors", "any of 3 tags")
    assert result["mean"] < result["constant_score"]
    assert result["untrained"] is None
    checkpoint = Path(result["checkpoint"][0])
    epochs = json.loads((checkpoint / "metrics.json").read_text())["epoch_scores"]
    assert result["mean"] == min(one["tag_errors"] for one in epochs)  # the best epoch
    lines = (checkpoint / "predictions.jsonl").read_text().splitlines()
    rows = list(map(json.loads, lines))
    assert rows[3]["label"] == [TAGS[0], TAGS[1]]
    assert set(rows[3]["confidence"]) == set(TAGS)
    assert "tag_errors, lower is better" in run(*trained, "--model", tiny_model).out

    scored = run("evaluate", checkpoint, "--json")
    assert scored.code == 0, scored.err
    score = json.loads(scored.out)
    assert (score["task"], score["metric"]) == ("toy-tags", "tag_errors")
    assert score["score"] == pytest.approx(result["mean"])
    assert "tag_errors, lower is better" in run("evaluate", checkpoint).out
    Path("new.txt").write_text("the of list\nthe of file\n")
    rows = [{"text": ["the", "of", topic]} for topic in ("list", "file")]
    Path("new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = [
        json.loads(run("evaluate", checkpoint, "--predict", name, "--json").out)["predictions"]
        for name in ("new.txt", "new.jsonl")
    ]
    assert said[0] == said[1]
    assert all(set(one["prediction"]) <= set(TAGS) for one in said[0])

    own = "finetune own --dense --epochs 1 --threads 1 --text-column text --label-column tags"
    at = ["--train", folder / "train.jsonl", "--model", tiny_model, "--json"]
    guessed = run(*own.split(), *at)
    assert guessed.code == 0, guessed.err
    assert json.loads(guessed.out)["metric"] == "tag_errors"


def test_a_comparison_knows_which_way_a_toy_metric_goes(
    toy: Benchmark, tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    tags_folder(Path("toy"))
    Path("tiny.toml").write_text("batch-size = 4\nsequence-length = 16\n[imp]\nprune-every = 1\n")
    sweep = "compare --sparsity 0.5 --recipe tiny.toml --blocks 8 --device cpu --json".split()
    more = "--methods tamt-mlm,magnitude --tasks toy-tags --data-dir toy --task-epochs 1".split()
    done = run(*sweep, *more, "--model", tiny_model, "--corpus", text_file)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert all("toy-tags_tag_errors" in row for row in result["results"])
    report = (Path(result["folder"]) / "report.md").read_text()
    assert "toy-tags (tag errors, lower is better)" in report


def test_the_winner_of_a_toy_metric_has_less_of_it(toy: Benchmark) -> None:
    def sentence(task: str, metric: str) -> str:
        is_higher = higher_is_better(metric)
        one = Difference(
            "A", "B", Level(0.5), task, Interval(-0.2, -0.3, -0.1), is_headline=True,
            higher_is_better=is_higher,
        )  # fmt: skip
        return str(one)

    assert sentence("toy-tags", "tag_errors").startswith("A beats B at 0.5 in toy-tags by 0.200")
    assert sentence("sst2", "accuracy").startswith("B beats A at 0.5 in sst2 by 0.200")


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "sst2"}, "there is a benchmark 'sst2' already"),
        ({"name": "Toy Tags"}, "a benchmark cannot be called 'Toy Tags': .*, such as 'toy-tags'"),
        ({"name": "mlm"}, "cannot be called 'mlm', which is a measure of evaluate"),
        ({"name": "stsb-zero-shot"}, "cannot be called 'stsb-zero-shot', which is a measure"),
        ({"kind": "regresion"}, "no kind of task 'regresion', .*; did you mean regression"),
        ({"metrics": ("recall",)}, "'recall', which is none of classification's: accuracy, f1"),
        ({"metrics": ()}, "needs metrics, columns to read"),
        ({"hub": None}, "does not say where its examples are; give its hub"),
    ],
)
def test_a_benchmark_that_is_refused(changes: dict[str, Any], line: str) -> None:
    task = Task(name="new", summary="new", hub=("me/new", None))
    before = list(BENCHMARKS)
    with pytest.raises(UsageError, match=line):
        BENCHMARKS.register(Benchmark(task=replace(task, **changes)))
    assert list(BENCHMARKS) == before


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "span"}, "there is a kind of task 'span' already"),
        ({"name": "Tagging"}, "a kind of task cannot be called 'Tagging': .*, such as 'tagging'"),
        ({"metrics": ()}, "needs metrics, each with its own name"),
        ({"own_metrics": ("f1",)}, "has no metric 'f1'; it has tag_errors"),
        ({"metrics": (Metric("f1", higher_is_better=False),), "own_metrics": ()}, "other way"),
    ],
)
def test_a_kind_that_is_refused(changes: dict[str, Any], line: str) -> None:
    before = list(KINDS)
    with pytest.raises(UsageError, match=line):
        KINDS.register(replace(TOY_KIND, **changes))
    assert list(KINDS) == before


def test_a_measure_without_training_has_a_name_of_its_own() -> None:
    task = replace(TASKS["stsb"], name="new")
    for name in ("sst2", "new", "kd", "stsb-zero-shot"):
        with pytest.raises(UsageError, match=f"cannot be called {name!r}, which is something"):
            BENCHMARKS.register(Benchmark(task=task, zero_shot=name))


def test_code_that_does_not_keep_what_its_row_promises_is_named() -> None:
    for code, line in [(SimpleNamespace(Code=dict), "no class made of TaskKind"), ("json", "Code")]:
        with (
            KINDS.holding(replace(TOY_KIND, code=code)),
            pytest.raises(UsageError, match=line),
        ):
            kind_of(TOY.task)
    recall = replace(TOY_KIND, metrics=(*TOY_KIND.metrics, Metric("tag_recall")))
    task = replace(TOY.task, metrics=("tag_recall",))
    examples = Examples(["0"], (["a"],), [[1, 0, 0]])
    with KINDS.holding(recall), pytest.raises(UsageError, match="'tagging' computes no tag_recall"):
        metrics(task, [[1, 0, 0]], examples)


def test_a_metric_knows_its_direction() -> None:
    errors, accuracy = TOY_KIND.metrics[0], primary_metric(TASKS["sst2"])
    assert errors.gain(0.1, 0.3) == pytest.approx(0.2)
    assert accuracy.gain(0.1, 0.3) == pytest.approx(-0.2)


METRICS: dict[str, tuple[Any, str]] = {
    "nan": (float("nan"), "gives nan for tag_errors; it must be a finite number"),
    "text": ("good", "gives 'good' for tag_errors; it must be a finite number"),
}


@pytest.mark.parametrize("what", METRICS)
def test_a_metric_that_is_no_number_is_refused(what: str, toy: Benchmark) -> None:
    value, line = METRICS[what]

    class Own(Code):
        def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
            return {"tag_errors": value}

    examples = Examples(["0"], (["a"],), [[1, 0, 0]])
    row = replace(TOY_KIND, name="odd", code=SimpleNamespace(Code=Own))
    with KINDS.holding(row), pytest.raises(UsageError, match=f"kind of task 'odd' {line}"):
        metrics(replace(TOY.task, kind="odd"), [[1, 0, 0]], examples)


ODD_METHODS: dict[str, tuple[str, Any, str]] = {
    "a metric that fails": ("metrics", ZeroDivisionError("by zero"), "failed: ZeroDivisionError"),
    "labels that fail": ("label_summary", KeyError("x"), "failed: KeyError: 'x'; --debug shows"),
    "predictions of nothing": ("predictions", None, "gives NoneType, not Predictions"),
    "too few predictions": (
        "predictions", Predictions([], [0]), "gives 0 values and 1 confidences for 1 examples",
    ),
    "a loss of each example": ("loss", torch.ones(2), r"has the shape \[2\]; it must be one"),
    "a loss that teaches nothing": ("loss", torch.tensor(1.0), "has no gradient: compute it from"),
    "inputs of nothing": ("encode", {}, "gives dict, not Encoded"),
    "metrics of nothing": ("metrics", None, "gives NoneType, not Mapping"),
    "a class method": ("looks_like", ValueError("odd"), "failed: ValueError: odd"),
    "a property": ("no_label", ValueError("odd"), "failed: ValueError: odd"),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD_METHODS)
def test_a_method_of_a_kind_that_is_at_fault_names_the_kind(what: str, toy: Benchmark) -> None:
    name, given, line = ODD_METHODS[what]

    def method(self: Any, *args: Any) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    forms: dict[str, Any] = {"looks_like": classmethod, "no_label": property}
    parts = {name: forms.get(name, lambda own: own)(method)}
    row = replace(TOY_KIND, name="odd", code=SimpleNamespace(Code=type("Own", (Code,), parts)))
    examples = Examples(["0"], (["a"],), [[1, 0, 0]])
    with KINDS.holding(row):
        kind: Any = kind_of(replace(TOY.task, kind="odd"))
        with pytest.raises(UsageError, match=f"^{name} of the kind of task 'odd' {line}"):
            getattr(kind, name)(examples)


def test_records_that_cannot_be_read_are_a_fault_of_their_kind(toy: Benchmark) -> None:
    class Own(Code):
        def own_records(self, file: Path) -> Iterator[Any]:
            yield "line 1", {}
            raise ValueError("odd")

    with KINDS.holding(replace(TOY_KIND, name="odd", code=SimpleNamespace(Code=Own))):
        records = kind_of(replace(TOY.task, kind="odd")).own_records(Path("x"))
        assert next(records) == ("line 1", {})
        with pytest.raises(UsageError, match="own_records of the kind of task 'odd' failed: Value"):
            next(records)


def test_a_metric_may_be_a_number_of_another_library(toy: Benchmark) -> None:
    class Own(Code):
        def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, Any]:
            return {"tag_errors": torch.tensor(0.25)}

    examples = Examples(["0"], (["a"],), [[1, 0, 0]])
    row = replace(TOY_KIND, name="odd", code=SimpleNamespace(Code=Own))
    with KINDS.holding(row):
        found = metrics(replace(TOY.task, kind="odd"), [[1, 0, 0]], examples)
    assert found == {"tag_errors": 0.25}
    assert type(found["tag_errors"]) is float
