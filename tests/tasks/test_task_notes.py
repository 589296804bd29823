"""What is said of examples: what labels are taken for, what is cut, shared, or of no example."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from command_line import Run
from samples import own_config, squad_folder

from tamtctl.foundations.errors import ModelError, TamtctlError, TaskError, UsageError
from tamtctl.tasks.evaluation.api import label
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.examples import Answers, Examples
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.kinds.class_notes import own_class_notes
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.metrics import metrics, standard_errors
from tamtctl.tasks.kinds.regression import number_notes
from tamtctl.tasks.labelled.opening import open_own_task, open_task
from tamtctl.tasks.labelled.texts import read_texts
from tamtctl.tasks.registry import TASKS, own_task

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert")


def write(path: str, rows: list[dict[str, Any]]) -> str:
    Path(path).write_text("\n".join(map(json.dumps, rows)))
    return path


# --- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["0.1", "2.5", "4", "n/a"], "3 of 4 labels are numbers, but n/a is not"),
        ([0, 1, 2, -1], "-1 is among the classes (once); where it stands for examples without"),
        ([0, 1, -100, -100], "-100 is among the classes (2 times)"),
        ([0, 1, 0.0, 1.0], "'0' and '0.0' are taken for different classes"),
        ([True, "true", False], "'True' and 'true' are taken for different classes"),
        ([True, 1, 0], "'1' and 'True' are taken for different classes"),
        (["pos", "pos ", "neg"], "'pos' and 'pos ' are taken for different classes"),
        ([" neg", "pos"], "the class ' neg' begins or ends with a space"),
        (["Pos", "pos"], "'Pos' and 'pos' are taken for different classes"),
        (["a", "b", "a;b"], "a class looks like several labels in one cell, for example 'a;b'"),
        (["a|b", "b|c", "c"], "2 classes look like several labels in one cell"),
        (["['x', 'y']", "['x']"], "several labels in one cell, for example \"['x', 'y']\""),
        (["pos", "neg", "none"], "'none' is among the classes (once)"),
        (["caf\u00e9", "cafe\u0301", "tea"], "are taken for different classes"),
        (["pos", "pos\u200b", "neg"], "are taken for different classes"),
        (["1e1", "10.0", "2"], "'10.0' and '1e1' are taken for different classes"),
        (["-0", "0", "1"], "'-0' and '0' are taken for different classes"),
        (
            ["1,5", "2,25", "3"],
            "1,5 is taken for the name of a class; of a number",
        ),
        (list(range(30)), "the labels are 30 whole numbers, each taken for a class; --label-kind"),
    ],
)
def test_labels_that_may_not_be_what_they_seem_are_noted(values: list[Any], wanted: str) -> None:
    assert wanted in "\n".join(own_class_notes(values, is_guessed=True))


@pytest.mark.parametrize(
    "values",
    [
        ["pos", "neg"],
        [0, 1],
        [1, 2, 3, 4, 5],
        ["a, b", "c"],
        [1000001, 1000002, 10**30 + 1, 10**30 + 2],
    ],
)
def test_plain_labels_are_not_noted(values: list[Any]) -> None:
    assert own_class_notes(values, is_guessed=True) == []


def test_a_number_that_stands_for_none_is_noted() -> None:
    assert "-1 is among the dev labels (once)" in number_notes([0.5, -1.0, 3.0], "dev")[0]
    assert number_notes([-1.0, -2.0, 3.0], "dev") == []


def test_numbers_of_which_nothing_can_be_learnt_are_noted() -> None:
    assert number_notes([2.5] * 9, "training") == ["every training label is 2.5"]
    (note,) = number_notes([1e9, *(0.5 + i % 4 for i in range(40))], "training")
    assert note.startswith("the training label 1e+09 is far from all others (0.5 to 3.5)")
    skewed = np.exp(np.random.default_rng(0).normal(size=400) * 2).tolist()  # as prices are
    assert number_notes(skewed, "training") == []


@pytest.mark.parametrize(("count", "is_told"), [(1, False), (29, False), (30, True)])
def test_how_sure_a_score_is_takes_thirty_examples(
    bert: Path, run: Run, count: int, is_told: bool
) -> None:
    checkpoint = finetune(own_config(bert, dense=True)).checkpoint[0]
    write("d.jsonl", [{"text": f"the {w}", "label": w} for w in ("list", "file") * 15][:count])
    found = json.loads(run("evaluate", checkpoint, "--dev", "d.jsonl", "--json").out)
    assert all((error is not None) == is_told for error in found["standard_errors"].values())
    assert any(n.startswith(f"too few dev examples ({count})") for n in found["notes"]) != is_told


def test_the_plan_says_what_the_labels_are_taken_for(bert: Path, run: Run) -> None:
    words: list[dict[str, Any]]
    words = [{"text": w, "label": c} for w, c in zip(tiny.WORDS, "AB" * 4, strict=False)]
    numbers: list[dict[str, Any]] = [
        {"text": w, "label": 0.1 + i} for i, w in enumerate(tiny.WORDS[:5])
    ]
    short = ["--dense", "--model", bert, "--epochs", 1, "--threads", 1]
    for name, rows, said in [
        ("w", words, "(2 classes: A, B)"),
        ("n", numbers, "(regression, 0.1 to 4.1)"),
    ]:
        data = write(f"{name}.jsonl", rows)
        found = run("finetune", name, "--train", data, "--dev", data, *short)
        assert f"task        {name}: a task of your own {said}" in found.err
        assert f"{data} is to train on and the dev file, too" in found.err
        assert f"all {len(rows)} dev examples are among those to train on" in found.err
        again = run("finetune", name, "--train", data, "--dev", data, *short, "--json")
        result = json.loads(again.out)
        assert f"({result['labels']})" == said
        assert len(result["notes"]) == 2


def test_the_order_of_classes_does_not_depend_on_the_order_of_a_set() -> None:
    """That is another one in every process, and with every order in which names are put in."""
    task = own_task("t", ("text",), "label", "classification")
    for names in itertools.permutations(("1", "01", "001", "2", "02")):
        found = kind_of(task).with_labels_of(Path("t.jsonl"), names)
        assert found.labels == ("001", "01", "1", "02", "2")


def test_a_rare_class_is_kept_by_limit_and_small_sets_are_part_of_large_ones(bert: Path) -> None:
    labels = [0, 1] * 100 + [2] * 2 + [3]
    examples = Examples([str(i) for i in range(203)], ([*map(str, range(203))],), labels)
    before: set[str] = set()
    for limit in range(1, 204):
        chosen = examples.subset(limit, of_each=lambda label: label)
        assert len(chosen) == limit
        assert before <= set(chosen.ids)
        assert len(set(chosen.labels)) == min(limit, 4) or limit < 4
        before = set(chosen.ids)
    plain = Examples(examples.ids, examples.texts, [0, 1] * 101 + [0])
    # They were all there anyway.
    assert plain.subset(50) == plain.subset(50, of_each=lambda label: label)
    rows = [{"text": w, "label": c} for w, c in zip(tiny.WORDS, "abc" * 9, strict=False)]
    data = write("t.jsonl", rows)
    found = finetune(own_config(bert, train=data, dev=data, dense=True, limit=2))
    assert any("no example of" in n and "among the 2 training ones" in n for n in found.notes)


# --- texts -----------------------------------------------------------------------------------


def test_what_is_cut_is_said_everywhere(bert: Path, run: Run) -> None:
    rows = [{"text": f"{w} " * (60 if i % 2 else 3), "label": "ab"[i % 2]}
            for i, w in enumerate(tiny.WORDS[:12])]  # fmt: skip
    data = write("t.jsonl", rows)
    values = {"train": data, "dev": data, "dense": True}
    found = finetune(own_config(bert, **values, max_length=16))
    said = "50 % of the texts (12 of 24) are longer than 16 tokens and are cut; --max-length 40 "
    assert any(note.startswith(said) for note in found.notes)
    assert (found.train_cut, found.dev_cut) == (6, 6)
    most = finetune(own_config(bert, **values))
    assert any(note.endswith("are cut; the model cannot take more") for note in most.notes)
    checkpoint = found.checkpoint[0]
    scored = json.loads(run("evaluate", checkpoint, "--json").out)
    assert scored["cut"] == 6
    cut = "50 % of the texts (6 of 12) are longer than 16 tokens and are cut; fine-tune with"
    assert any(cut in note for note in scored["notes"])
    labelled = run("evaluate", checkpoint, "--predict", data)
    assert cut in labelled.err
    assert len(labelled.out.splitlines()) == 12


@pytest.mark.parametrize(
    ("kind", "columns", "label_column", "message"),
    [
        (EvaluateConfig, ("a", "a"), None, "a is given twice"),
        (EvaluateConfig, ("a",), "a", "cannot be both the text and the label"),
        (FinetuneConfig, ("a", "a"), "label", "a is given twice"),
        (FinetuneConfig, ("label",), "label", "cannot be both the text and the label"),
    ],
)
def test_the_same_column_twice_is_refused(
    kind: Any, columns: tuple[str, ...], label_column: str | None, message: str
) -> None:
    own = {"task": "own", "train": "t", "dev": "t"} if kind is FinetuneConfig else {"name": "x"}
    with pytest.raises(UsageError, match=message):
        kind(**own, text_columns=columns, label_column=label_column)


def test_tokens_that_the_model_does_not_know_are_refused_before_the_training(
    bert: Path, tmp_path: Path
) -> None:
    larger = tiny.save(tmp_path / "larger", "bert")
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<e1>"])
    tokenizer.save_pretrained(larger)
    with pytest.raises(ModelError, match="has the token '<e1>' with id 84, but the model"):
        finetune(own_config(larger, dense=True))
    assert not Path("runs").exists()
    checkpoint = finetune(own_config(bert, dense=True)).checkpoint[0]
    tokenizer.save_pretrained(checkpoint)
    with pytest.raises(ModelError, match="has the token '<e1>' with id 84"):
        label(EvaluateConfig(name=str(checkpoint)), Path("own.jsonl"))


def test_an_empty_text_has_a_prediction_with_any_tokenizer(bert: Path, tmp_path: Path) -> None:
    plain = tiny.save(tmp_path / "plain", "bert")
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    tokenizer.save_pretrained(plain)
    rows = [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(["", "a", " ", "the list"])]
    data = write("t.jsonl", rows)
    checkpoint = finetune(own_config(plain, train=data, dev=data, dense=True)).checkpoint[0]
    Path("in.txt").write_text("\n\nthe\n")
    found = label(EvaluateConfig(name=str(checkpoint)), Path("in.txt"))
    assert len(found.predictions) == 3
    assert found.confidences[0] == found.confidences[1]


# --- one answer for every line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "list\n\nfile\n   \nlist\n"),
        ("a.txt", "list\r\n\r\nfile\r\n\t\r\nlist"),
        ("a.txt", "list\r\rfile\r \rlist\r"),  # of old Macs
        ("a.tsv", "text\nlist\n\nfile\n  \nlist\n"),
        ("a.tsv", "n\ttext\n1\tlist\n\n2\tfile\n  \n3\tlist\n"),
        ("a.csv", 'text,n\nlist,1\n\nfile,2\n"",3\nlist,4\n'),
        ("a.jsonl", '{"text": "list"}\n\n{"text": "file"}\n{"text": null}\n{"text": "list"}\n'),
    ],
)
def test_every_line_is_a_text(name: str, content: str) -> None:
    Path(name).write_bytes(content.encode())
    found = [text.strip() for (text,) in read_texts(Path(name), ["text"])]
    assert found == ["list", "", "file", "", "list"]


@pytest.mark.parametrize("name", ["a.json", "a.ndjson", "a.html", "a.JSON.gz"])
def test_what_is_no_text_is_not_labelled_line_by_line(name: str) -> None:
    Path(name).write_text('[\n{"text": "list"}\n]')
    with pytest.raises(TaskError, match=r"is not read as text, for it is a \.\w+ file; make it"):
        read_texts(Path(name), ["text"])


def test_answers_are_whole_and_behind_a_tab_is_their_text(bert: Path, run: Run) -> None:
    numbers = write("n.jsonl", [{"text": f"the {i}", "label": i * 1e-12 + 0.5e-12}
                                for i in range(4)])  # fmt: skip
    tiny_labels = {"train": numbers, "dev": numbers, "dense": True, "label_kind": "regression"}
    checkpoint = finetune(own_config(bert, **tiny_labels)).checkpoint[0]
    text = "list " * 2000 + "end"
    Path("in.txt").write_text(f"{text}\nlist\tfile\n")
    first, second = run("evaluate", checkpoint, "--predict", "in.txt").out.splitlines()[-2:]
    number, shown = first.split("\t")
    assert shown == text
    assert second.split("\t")[1] == r"list\tfile"
    said = label(EvaluateConfig(name=str(checkpoint)), Path("in.txt")).predictions[0]
    assert 0 != float(number) == pytest.approx(said, rel=1e-6)


def test_every_line_gets_one_line_of_an_answer(bert: Path, run: Run) -> None:
    checkpoint = finetune(own_config(bert, dense=True)).checkpoint[0]
    Path("in.txt").write_text("the list\n\nfile\x0cname\u2028type\n \nlist\n\n")
    for quiet in ([], ["--quiet"]):
        found = run("evaluate", checkpoint, "--predict", "in.txt", "--threads", 1, *quiet)
        assert len(found.out.split("\n")) - 1 == 6
    assert len(json.loads(run("evaluate", checkpoint, "--predict", "in.txt", "--json").out)[
        "predictions"]) == 6  # fmt: skip


def test_a_context_without_a_token_has_an_empty_answer_and_stops_no_other(
    bert: Path, tmp_path: Path
) -> None:
    folder = squad_folder(tmp_path / "squad")
    dev = json.loads((folder / "dev-v1.1.json").read_text())
    paragraph = dev["data"][0]["paragraphs"][0]
    blank = {"context": " ", "qas": [{"id": None, "question": "q", "answers": [
        {"text": " ", "answer_start": 0}]}]}  # fmt: skip
    dev["data"][0]["paragraphs"].insert(0, blank)
    (folder / "dev-v1.1.json").write_text(json.dumps(dev))
    result = finetune(
        FinetuneConfig(task="squad", data_dir=str(folder), model=str(bert), dense=True, epochs=1)
    )
    folder = result.checkpoint[0]
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert (rows[0]["prediction"], rows[0]["confidence"]) == ("", None)
    assert len(rows) == 7
    contexts = [paragraph["context"], "", "  ", "\u200b", paragraph["context"]]
    write("new.jsonl", [{"question": "which name", "context": c} for c in contexts])
    found = label(EvaluateConfig(name=str(folder)), Path("new.jsonl"))
    assert found.predictions[0] == found.predictions[4] != ""
    assert found.predictions[1:4] == ["", "", ""]


def test_questions_are_scored_by_their_place_whatever_their_ids(tmp_path: Path) -> None:
    def two(ids: list[str]) -> Examples:
        answers = [Answers(("red",), (0,)), Answers(("blue",), (0,))]
        return Examples(ids, (["q", "q"], ["red", "blue"]), answers)

    for said in (["red", "blue"], ["red", "x"]):
        found = metrics(TASKS["squad"], said, two(["0", "1"]))
        assert metrics(TASKS["squad"], said, two(["0", "0"])) == found
        errors = standard_errors(TASKS["squad"], said, two(["0", "1"]))
        assert standard_errors(TASKS["squad"], said, two(["0", "0"])) == errors
    folder = squad_folder(tmp_path / "squad")
    dev = json.loads((folder / "dev-v1.1.json").read_text())
    for paragraph in dev["data"][0]["paragraphs"][:2]:
        del paragraph["qas"][0]["id"]
    (folder / "dev-v1.1.json").write_text(json.dumps(dev))
    ids = open_task(TASKS["squad"], folder).dev()[""].ids
    assert ids[:2] == [f"{folder}/dev-v1.1.json, question {i}" for i in (1, 2)]
    assert ids[2] == "q2"


# --- tables ----------------------------------------------------------------------------------

QUOTED = ['he said "no"', "", "a\tb", "two\nlines", "a 'b'"]


@pytest.mark.parametrize("escaped", ['""', '\\"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_quotes_of_ones_own_tsv_are_those_of_pandas_and_r(
    escaped: str, end: str, mark: str
) -> None:
    cells = [f'"{text.replace(chr(34), escaped)}"' for text in QUOTED]
    lines = ['"text"\t"label"', *(f"{cell}\t{i % 2}" for i, cell in enumerate(cells))]
    Path("t.tsv").write_bytes((mark + end.join([*lines, ""])).encode())
    assert [text for (text,) in read_texts(Path("t.tsv"), ["text"])] == QUOTED
    data = open_own_task("own", Path("t.tsv"), Path("t.tsv"), text_columns=["text"],
                         label_column="label")  # fmt: skip
    assert data.train().texts == (QUOTED,)
    assert not [note for note in data.notes if "quotes" in note]


@pytest.mark.parametrize(
    "rows",
    [['"open quote\t1', 'x "y"\t0'], ['"a\t0', 'b"\t1'], ['"a"b\t0', "c\t1"]],
)
def test_quotes_that_are_not_paired_are_text_and_that_is_noted(rows: list[str]) -> None:
    Path("t.tsv").write_text("\n".join(["text\tlabel", *rows]))
    data = open_own_task("own", Path("t.tsv"), Path("t.tsv"), text_columns=["text"],
                         label_column="label")  # fmt: skip
    assert data.train().texts == ([row.split("\t")[0] for row in rows],)
    assert any("quotes are read as they stand" in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text;label\na;0\n", "a.csv has its columns between semicolons; write it with"),
        ("a.csv", '"text";"label"\n"a";"0"\n', "between semicolons"),
        ("a.csv", "text\tlabel\na\t0\n", "between tabs"),
        ("a.tsv", "text,label\na,0\n", "between commas"),
        ("a.csv", "text\na\n", "has no column 'label', but 'text'"),
        ("a.csv", "text,label,label\na,0,1\n", "has 2 columns 'label'"),
        ("a.csv", "text,label\n", "holds no examples"),
        ("a.csv", f"text,label\na,{'n' * 257}\nb,p\n", "a label has 257 characters, more than 256"),
        ("a.csv", "text,label\na,0\nb\n", "a.csv:3 has 1 column, not 2"),
        ("a.tsv", "text\tlabel\n1\ta\t0\n", r"a.tsv:2 has 3 columns, not 2; .*row.names=FALSE"),
    ],
)
def test_tables_that_are_something_else_are_named(name: str, content: str, message: str) -> None:
    Path(name).write_text(content)
    with pytest.raises(TaskError, match=message) as raised:
        open_own_task("own", Path(name), Path(name), text_columns=["text"], label_column="label")
    assert isinstance(raised.value, TamtctlError)
    assert "\n" not in str(raised.value)


def test_two_columns_of_one_name_are_refused_in_parquet_as_in_csv() -> None:
    columns = [pa.array(["a", "b"])] * 3
    pq.write_table(pa.table(columns, names=["text", "label", "label"]), "a.parquet")
    with pytest.raises(TaskError, match="has 2 columns 'label'; rename"):
        open_own_task(
            "own", Path("a.parquet"), Path("a.parquet"), text_columns=["text"], label_column="label"
        )
