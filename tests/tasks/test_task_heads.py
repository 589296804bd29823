"""Heads of checkpoints: whose classes their rows are, and in which unit they say numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from samples import own_config, ticket_for
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from tamtctl.foundations.errors import ModelError, TaskError
from tamtctl.models.encoder import max_sequence_length
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.kinds.class_order import ClassOrder, disagreement, output_layer
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.kinds.loading import load_fine_tuned, load_for_training
from tamtctl.tasks.registry import own_task

CLASSES = ("file", "list", "name")


pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert")


def topics(path: str, classes: Sequence[str] = CLASSES, count: int = 36) -> str:
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        filler = " ".join(map(str, generator.choice(tiny.WORDS[:20], 4)))
        label = classes[number % len(classes)]
        rows.append(json.dumps({"text": f"{filler} {label.lower()}", "label": label}))
    Path(path).write_text("\n".join(rows))
    return path


def with_classes(checkpoint: Path, to: Path, names: Sequence[str], rows: Sequence[int]) -> Path:
    """Save the same classifier with its rows, and their names, in another order."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    with torch.no_grad():
        for parameter in output_layer(model)[1].parameters():
            parameter.copy_(parameter[list(rows)].clone())
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    model.save_pretrained(to)
    tiny.tokenizer().save_pretrained(to)
    return to


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "deberta-v2"])
def test_a_head_that_is_trained_on_keeps_its_rows_under_their_names(
    family: str, tmp_path: Path
) -> None:
    base = tiny.save(tmp_path / "base", family)
    task = own_task("own", ("text",), "label", "classification")
    task = type(task)(**(vars(task) | {"labels": CLASSES}))
    torch.manual_seed(0)
    load_for_training(task, str(base))[0].save_pretrained(tmp_path / "one")
    tiny.tokenizer().save_pretrained(tmp_path / "one")
    inputs = tiny.tokenizer()(["the list of file"], return_tensors="pt")
    inputs.pop("token_type_ids", None)
    names, rows = ["NAME", "File", "list"], [2, 0, 1]
    turned = with_classes(tmp_path / "one", tmp_path / "turned", names, rows)
    with torch.no_grad():
        for load in (load_for_training, load_fine_tuned):
            before, after = (_model(load(task, str(name))) for name in (tmp_path / "one", turned))
            assert torch.equal(before(**inputs).logits, after(**inputs).logits)
            assert after.config.id2label == dict(enumerate(CLASSES))


def _model(loaded: Any) -> Any:
    return (loaded[0] if isinstance(loaded, tuple) else loaded).eval()


def test_going_on_from_another_order_scores_the_same(bert: Path) -> None:
    data = topics("t.jsonl")
    values = {"train": data, "dev": data, "dense": True}
    first = finetune(own_config(bert, **values, epochs=30))
    assert first.mean == 1
    turned = with_classes(first.checkpoint[0], Path("turned"), ["LIST", "NAME", "FILE"], [1, 2, 0])
    second = finetune(own_config(turned, **values, learning_rate=1e-6))
    assert (second.mean, [n for n in second.notes if "head" in n or "classes" in n]) == (1, [])
    saved = AutoConfig.from_pretrained(second.checkpoint[0]).id2label
    assert saved == dict(enumerate(CLASSES))


@pytest.mark.parametrize("names", [["LABEL_0", "LABEL_1", "LABEL_2"], ["0", "1", "2"]])
def test_a_checkpoint_that_does_not_name_its_classes_is_pointed_out(
    bert: Path, names: list[str], run: Run
) -> None:
    data = topics("t.jsonl")
    first = finetune(own_config(bert, train=data, dev=data, dense=True))
    checkpoint = with_classes(first.checkpoint[0], Path("unnamed"), names, [0, 1, 2])
    note = "the checkpoint does not name its classes; they are taken in the task's order"
    result = finetune(own_config(checkpoint, train=data, dev=data, dense=True))
    assert f"model unnamed: {note}" in result.notes
    facts = (first.checkpoint[0] / "metrics.json").read_text()
    (checkpoint / "metrics.json").write_text(facts)
    found = run("evaluate", checkpoint, "--threads", 1)
    assert note in found.err
    assert note in json.loads(run("evaluate", checkpoint, "--json").out)["notes"]


def test_classes_are_found_by_their_names_whatever_their_case() -> None:
    def order(names: dict[int, str], labels: Sequence[str]) -> ClassOrder | None:
        ids = {name: i for i, name in names.items()}
        return ClassOrder.of(AutoConfig.for_model("bert", id2label=names, label2id=ids), labels)

    assert order({0: "B", 1: "A"}, ("a", "b")) == ClassOrder((1, 0), are_named=True)
    assert order({0: "a", 1: "A"}, ("A", "a")) == ClassOrder((1, 0), are_named=True)
    assert order({0: "not entailment", 1: "Entailment"}, ("entailment", "not_entailment")) == (
        ClassOrder((1, 0), are_named=True)
    )
    assert order({0: "LABEL_1", 1: "LABEL_0"}, ("LABEL_0", "LABEL_1")) == (
        ClassOrder((1, 0), are_named=True)  # where these are the names
    )
    assert order({i: f"c{i}" for i in range(12)}, [f"C{i}" for i in reversed(range(12))]) == (
        ClassOrder(tuple(reversed(range(12))), are_named=True)
    )
    assert order({0: "label_0", 1: "label_1"}, ("a", "b")) == ClassOrder((0, 1), are_named=False)
    assert order({0: "x", 1: "a"}, ("a", "b")) is None
    assert order({0: "a"}, ("a", "b")) is None
    assert order({0: "a", 2: "b"}, ("a", "b")) is None  # rows of which nobody knows the names
    config = AutoConfig.for_model("bert", num_labels=2)
    of_strangers: list[Any] = [{"a": "x"}, {"a": None}, ["a"]]
    for config.label2id in of_strangers:
        assert disagreement(config) == []
        assert ClassOrder.of(config, ("a", "b")) == ClassOrder((0, 1), are_named=False)
    config.label2id = {"b": 0, "a": 1}  # the other way round is not written down
    assert ClassOrder.of(config, ("a", "b")) == ClassOrder((1, 0), are_named=True)


def test_other_classes_get_a_new_head_and_a_note(bert: Path) -> None:
    first = finetune(own_config(bert, dense=True)).checkpoint[0]  # file, list
    three = topics("three.jsonl")
    found = finetune(own_config(first, train=three, dev=three, dense=True))
    note = f"the head of model {first} is for the classes file, list; a new one is trained"
    assert note in found.notes
    two = topics("two.jsonl", ("name", "type"))
    found = finetune(own_config(first, train=two, dev=two, dense=True))
    assert note in found.notes
    with pytest.raises(ModelError, match="of the classes file, list; give a pre-trained"):
        load_fine_tuned(
            type(t := own_task("own", ("text",), "label", "classification"))(
                **(vars(t) | {"labels": ("name", "type")})
            ),
            str(first),
        )


@pytest.mark.parametrize(
    ("meaning", "words"),
    [("multi_label_classification", "any number of classes at once"), ("regression", "numbers")],
)
def test_outputs_that_are_no_choice_of_one_class_are_not_taken_for_it(
    bert: Path, run: Run, meaning: str, words: str
) -> None:
    first = finetune(own_config(bert, dense=True)).checkpoint[0]
    config = json.loads((first / "config.json").read_text()) | {"problem_type": meaning}
    (first / "config.json").write_text(json.dumps(config))
    for more in ([], ["--predict", "own.jsonl"]):
        found = run("evaluate", first, *more)
        assert found.code == 1
        assert f"a BertForSequenceClassification for {words}, which own does not ask" in found.err
    again = finetune(own_config(first, dense=True))
    note = f"the head of model {first} is for {words}; a new one is trained"
    assert note in again.notes


def test_zeros_that_are_filled_in_are_noted(bert: Path) -> None:
    ticket = ticket_for(bert, Path("t"), sparsity=0.5)
    sparse = finetune(own_config(bert, ticket=str(ticket)))
    again = finetune(own_config(sparse.checkpoint[0], dense=True))
    assert any("% of the weights of model" in n for n in again.notes)
    assert not any(
        "zeros" in n for n in (*sparse.notes, *finetune(own_config(bert, dense=True)).notes)
    )


def test_names_of_classes_that_contradict_each_other_are_noted(bert: Path) -> None:
    first = finetune(own_config(bert, dense=True)).checkpoint[0]
    config = json.loads((first / "config.json").read_text())
    config["label2id"] = {"file": 1, "list": 0}
    (first / "config.json").write_text(json.dumps(config))
    note = "id2label and label2id contradict each other; id2label is followed"
    assert any(note in n for n in evaluate(EvaluateConfig(name=str(first))).notes)
    assert any(note in n for n in finetune(own_config(first, dense=True)).notes)


def test_a_head_of_another_kind_of_task_is_never_taken_for_one_of_texts(bert: Path) -> None:
    tagger = AutoModelForTokenClassification.from_pretrained(bert, num_labels=2)
    tagger.save_pretrained("tagger")
    tiny.tokenizer().save_pretrained("tagger")
    found = finetune(own_config(Path("tagger"), dense=True))
    assert any("another kind of task (BertForTokenClassification)" in n for n in found.notes)
    (found.checkpoint[0] / "metrics.json").rename("metrics.json")
    Path("tagger/metrics.json").write_text(Path("metrics.json").read_text())
    with pytest.raises(ModelError, match="whose head does not fit own"):
        evaluate(EvaluateConfig(name="tagger"))


# --- numbers ---------------------------------------------------------------------------------


def numbers(path: str, scale: float, offset: float) -> str:
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(48):
        words = [str(word) for word in generator.choice(["list", "file", "data", "type"], 6)]
        label = offset + scale * (words.count("file") + 0.5)
        rows.append(json.dumps({"text": " ".join(words), "label": label}))
    Path(path).write_text("\n".join(rows))
    return path


@pytest.mark.parametrize("select", ["last", "best"])
def test_labels_of_any_size_are_learnt_and_said_in_their_own_unit(bert: Path, select: str) -> None:
    scores, said = [], []
    for scale, offset in [(1.0, 0.0), (20_000.0, 100_000.0), (0.001, -7.0)]:
        data = numbers(f"{scale}.jsonl", scale, offset)
        values = {"train": data, "dev": data, "dense": True, "label_kind": "regression"}
        found = finetune(own_config(bert, **values, epochs=6, select=select))
        scores.append(found.mean)
        folder = found.checkpoint[0]
        lines = (folder / "predictions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        own = np.array([row["prediction"] for row in rows])
        said.append((own - offset) / scale)
        assert np.abs(own - [row["label"] for row in rows]).mean() < 1.2 * scale
        # Plain transformers says the same.
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        texts = [json.loads(line)["text"] for line in Path(data).read_text().splitlines()]
        inputs = tiny.tokenizer()(texts, return_tensors="pt", padding=True)
        with torch.no_grad():
            assert model(**inputs).logits[:, 0].numpy() == pytest.approx(own, rel=1e-4)
        assert evaluate(EvaluateConfig(name=str(folder))).score == pytest.approx(found.mean)
    assert scores[0] > 0.8
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-2)
    assert said[1] == pytest.approx(said[0], abs=0.1)


def test_a_head_of_numbers_is_trained_on_only_where_its_numbers_fit(bert: Path) -> None:
    data = numbers("a.jsonl", 20_000.0, 100_000.0)
    numeric = {"dense": True, "label_kind": "regression"}
    first = finetune(own_config(bert, train=data, dev=data, **numeric, epochs=6))
    slow = numeric | {"learning_rate": 1e-7}
    again = finetune(own_config(first.checkpoint[0], train=data, dev=data, **slow))
    assert again.mean == pytest.approx(first.mean, abs=1e-3)
    years = numbers("b.jsonl", 10.0, 1990.0)
    other = finetune(own_config(first.checkpoint[0], train=years, dev=years, **slow))
    assert any("is for numbers of another size; a new one is trained" in n for n in other.notes)


def test_a_scale_is_undone_exactly_and_refused_where_float32_ends() -> None:
    scale = LabelScale.of([1.0, 3.0])
    assert (scale.mean, scale.deviation) == (2, 1)
    assert scale.standardised(torch.tensor([1.0, 3.0])).tolist() == [-1, 1]
    assert LabelScale.of([5.0, 5.0]).deviation == 1
    for labels in ([1e9, 1e9 + 1], [1e31, 1.0], [1e-320, 2e-320], [0.0, 1e-35]):
        with pytest.raises(TaskError, match="cannot tell apart; subtract or divide"):
            LabelScale.of(labels)


# --- lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [40, 84])
@pytest.mark.parametrize(
    ("family", "limit"),
    [("bert", 40), ("roberta", 38), ("camembert", 38), ("mpnet", 38), ("distilbert", 40),
     ("albert", 40), ("electra", 40), ("longformer", 38), ("nystromformer", 40)],
)  # fmt: skip
def test_a_model_takes_as_many_tokens_as_are_said_and_no_more(
    family: str, limit: int, vocabulary: int
) -> None:
    values = dict(tiny.FAMILIES.get(family, tiny.FAMILIES["bert"]))
    values.pop("pad_token_id", None)
    config = AutoConfig.for_model(family, **values | {"vocab_size": vocabulary})
    model = AutoModel.from_config(config).eval()
    assert max_sequence_length(model) == limit
    with torch.no_grad():
        model(input_ids=torch.full((1, limit), 7))
        with pytest.raises((RuntimeError, IndexError)):
            model(input_ids=torch.full((1, limit + 1), 7))


def test_without_a_table_of_positions_the_configuration_counts() -> None:
    assert max_sequence_length(tiny.build("modernbert", with_head=False)) == 40
    relative = tiny.build("deberta-v2", with_head=False, position_biased_input=False)
    assert max_sequence_length(relative) == 40
