"""--predict: what goes in and what comes out, and how sure the checkpoint is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import Run
from samples import own_config

from tamtctl.foundations.errors import TaskError
from tamtctl.tasks.evaluation.api import label
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.labelled.json_records import json_records
from tamtctl.tasks.registry import own_task

TEXTS = ["the list", "", "a file of the list"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a classifier and a regression in it."""
    folder = tmp_path_factory.mktemp("labels")
    bert = tiny.save(folder / "bert", "bert", with_head=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        one = finetune(own_config(bert, dense=True, epochs=1)).checkpoint[0]
        numbers = [{"text": t, "label": i / 2} for i, t in enumerate(["the", "a list", "of"] * 4)]
        Path("n.jsonl").write_text("\n".join(map(json.dumps, numbers)))
        config = own_config(bert, train="n.jsonl", dev="n.jsonl", dense=True, epochs=1)
        other = finetune(config).checkpoint[0]
        one.rename("classes")
        other.rename("numbers")
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def _lines(*records: dict[str, Any] | None) -> str:
    return "\n".join(json.dumps(one) if one is not None else "" for one in records) + "\n"


def test_json_lines_come_out_as_json_lines(run: Run) -> None:
    records = [{"id": 7, "text": TEXTS[0], "more": [1, None]}, None, {"text": TEXTS[2], "id": "é"}]
    Path("in.jsonl").write_text(_lines(*records))
    done = run("evaluate", "classes", "--predict", "in.jsonl")
    assert done.code == 0, done.err
    said = [json.loads(line) for line in done.out.splitlines()]
    found = label(EvaluateConfig(name="classes"), "in.jsonl")
    assert [one.pop("prediction") for one in said] == found.predictions
    confidences = [one.pop("confidence") for one in said]
    assert confidences == found.confidences
    assert said == [records[0], {}, records[2]]  # a blank line has an answer, too
    for prediction, each in zip(found.predictions, confidences, strict=True):
        assert set(each) == {"file", "list"}
        assert sum(each.values()) == pytest.approx(1)
        assert max(each, key=each.__getitem__) == prediction


def test_what_comes_out_can_go_in_again(run: Run) -> None:
    Path("in.jsonl").write_text(_lines({"text": TEXTS[0]}))
    first = run("evaluate", "classes", "--predict", "in.jsonl")
    Path("again.jsonl").write_text(first.out)
    again = run("evaluate", "classes", "--predict", "again.jsonl")
    assert again.out == first.out
    note = "the lines' own prediction and confidence are replaced"
    assert note in again.err
    assert note not in first.err


def test_a_text_in_quotes_that_spans_lines_is_noted(run: Run) -> None:
    Path("in.tsv").write_text('text\n"the list\nof"\nnames\n')
    done = run("evaluate", "classes", "--predict", "in.tsv")
    assert len(label(EvaluateConfig(name="classes"), "in.tsv").texts) == 2
    assert "in.tsv: all lines from a quote to the next are one text" in done.err


def test_a_table_is_read_by_its_header_for_a_task_whose_own_files_have_none(run: Run) -> None:
    """CoLA as published has no header and no quotes, but a table of one's own has."""
    for split in ("train", "dev"):
        rows = (f"s\t{i % 2}\t\t{' '.join(TEXTS)} {i}" for i in range(12))
        Path("CoLA").mkdir(exist_ok=True)
        Path("CoLA", f"{split}.tsv").write_text("\n".join(rows) + "\n")
    config = FinetuneConfig(
        task="cola", dense=True, model="bert", data_dir="CoLA", epochs=1, device="cpu"
    )
    checkpoint = finetune(config, output_dir="cola").checkpoint[0]
    Path("in.tsv").write_text('sentence\tid\n"the ""list"""\t1\na file\t2\n')
    Path("in.csv").write_text('sentence,id\n"the ""list""",1\na file,2\n')
    found = [label(EvaluateConfig(name=str(checkpoint)), f"in.{kind}") for kind in ("tsv", "csv")]
    assert found[0].texts == found[1].texts == [('the "list"',), ("a file",)]
    assert found[0].confidences == found[1].confidences
    Path("in.tsv").write_text("sentence\tid\nthe list\n")
    assert "in.tsv:2 has 1 column," in run("evaluate", checkpoint, "--predict", "in.tsv").err


def test_json_lines_may_be_compressed_and_numbers_have_no_confidence(run: Run) -> None:
    with gzip.open("in.jsonl.gz", "wt") as file:
        file.write(_lines(*({"text": text} for text in TEXTS)))
    done = run("evaluate", "numbers", "--predict", "in.jsonl.gz")
    said = [json.loads(line) for line in done.out.splitlines()]
    assert [one["text"] for one in said] == TEXTS
    assert all(type(one["prediction"]) is float and one["confidence"] is None for one in said)


def test_lines_of_text_come_out_as_ever_and_with_a_column_more_if_it_is_asked_for(
    run: Run,
) -> None:
    Path("in.txt").write_text("\n".join(TEXTS))
    found = label(EvaluateConfig(name="classes"), "in.txt")
    plain = [
        line.split("\t")
        for line in run("evaluate", "classes", "--predict", "in.txt").out.split("\n")
    ]
    assert plain[:3] == [[p, text] for p, text in zip(found.predictions, TEXTS, strict=True)]
    sure = run("evaluate", "classes", "--predict", "in.txt", "--confidence").out.split("\n")
    for line, prediction, each, text in zip(
        sure[:3], found.predictions, found.confidences, TEXTS, strict=True
    ):
        assert line == f"{prediction}\t{each[prediction]:.4f}\t{text}"
    rows = run("evaluate", "numbers", "--predict", "in.txt", "--confidence").out.split("\n")
    assert [line.split("\t")[1:] for line in rows[:3]] == [["", text] for text in TEXTS]


def test_the_other_forms_of_the_output_stay_as_they_were(run: Run) -> None:
    Path("in.jsonl").write_text(_lines({"text": TEXTS[0]}))
    found = label(EvaluateConfig(name="classes"), "in.jsonl")
    quiet = run("evaluate", "classes", "--predict", "in.jsonl", "-q")
    assert quiet.out == f"{found.predictions[0]}\n"
    whole = run("evaluate", "classes", "--predict", "in.jsonl", "--json")
    assert json.loads(whole.out) == found.to_dict()


def test_a_confidence_is_asked_for_with_a_text(run: Run) -> None:
    done = run("evaluate", "classes", "--confidence")
    assert (done.code, done.err) == (2, "error: --confidence is for --predict\n")


def test_a_file_that_changes_while_it_is_read_is_refused() -> None:
    Path("in.jsonl").write_text(_lines({"text": "a"}, {"text": "b"}))
    with pytest.raises(TaskError, match=r"in\.jsonl changed while it was read"):
        json_records(own_task("text", ("text",), "", "classification"), Path("in.jsonl"), 1)
