"""Tasks and their data: every kind of file as it really looks, and every way it can be wrong."""

from __future__ import annotations

import csv
import json
import lzma
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dataset_server
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamtctl.foundations.errors import TamtctlError, TaskError, UsageError
from tamtctl.tasks.examples import Answers, Examples
from tamtctl.tasks.labelled.files import records_of
from tamtctl.tasks.labelled.opening import open_dev_file, open_own_task, open_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.labelled.texts import read_texts
from tamtctl.tasks.registry import TASKS, find_task, own_task

REAL = Path(__file__).parents[3] / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not here")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def write_parquet(path: Path, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_the_tasks_and_their_hyperparameters_are_the_papers() -> None:
    glue = "cola sst2 mrpc stsb qqp mnli qnli rte wnli".split()
    assert set(TASKS) == {*glue, "squad", "python-docs-topic"}
    for name in glue:
        task = TASKS[name]
        values = (task.learning_rate, task.batch_size, task.epochs, task.max_length)
        assert values == (2e-5, 32, 3, 128)
    squad = TASKS["squad"]
    assert (squad.learning_rate, squad.batch_size, squad.epochs) == (3e-5, 16, 2)
    assert (squad.max_length, squad.stride) == (384, 128)
    assert TASKS["cola"].metrics == ("matthews_correlation",)
    assert TASKS["stsb"].metrics == ("pearson", "spearman")
    assert TASKS["mnli"].primary_metric == "accuracy_matched"
    assert TASKS["python-docs-topic"].learning_rate == 2e-5
    assert [TASKS["sst2"].epochs_for(limit) for limit in (None, 1000, 1001)] == [3, 8, 3]


def test_an_unknown_task_suggests_the_nearest() -> None:
    for wrong, right in [("sst3", "sst2"), ("SST-2", "sst2"), ("squadd", "squad")]:
        with pytest.raises(UsageError, match=f"did you mean {right}"):
            find_task(wrong)


# --- GLUE's own files ------------------------------------------------------------------------


def test_in_tsv_a_quote_is_a_quote_and_only_line_feeds_end_lines(tmp_path: Path) -> None:
    rows = 'sentence\tlabel\n"open quote\t1\nnext\u2028line\x85 " two ""\t0\n'
    write(tmp_path / "train.tsv", rows)
    write(tmp_path / "dev.tsv", "\ufeff" + rows.replace("\n", "\r\n"))
    data = open_task(TASKS["sst2"], tmp_path)
    wanted = (['"open quote', 'next\u2028line\x85 " two ""'],)
    assert data.train().texts == data.dev()[""].texts == wanted
    assert data.train().labels == data.dev()[""].labels == [1, 0]


def test_cola_has_no_header(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / "CoLA" / f"{split}.tsv", "gj04\t1\t\tGood one.\ngj04\t0\t*\tBad the.\n")
    data = open_task(TASKS["cola"], tmp_path)
    assert data.train().texts == (["Good one.", "Bad the."],)
    assert data.train().labels == [1, 0]


def test_mrpc_and_stsb_have_their_own_headers(tmp_path: Path) -> None:
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    write(tmp_path / "MRPC" / "train.tsv", header + "1\t1\t2\tone\ttwo\n")
    write(tmp_path / "MRPC" / "dev.tsv", "\ufeff" + header + "0\t1\t2\tthree\tfour\n")
    dev = open_task(TASKS["mrpc"], tmp_path).dev()[""]
    assert (dev.texts, dev.labels) == ((["three"], ["four"]), [0])

    stsb = "index\tgenre\tsentence1\tsentence2\tscore\n0\tx\ta\tb\t4.75\n1\tx\tc\td\t0\n"
    write(tmp_path / "STS-B" / "dev.tsv", stsb)
    assert open_task(TASKS["stsb"], tmp_path).dev()[""].labels == [4.75, 0]


def test_mnli_is_scored_matched_and_mismatched_apart(tmp_path: Path) -> None:
    row = "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\ta\tb\tneutral\tentailment\n"
    for name in ("train", "dev_matched", "dev_mismatched"):
        write(tmp_path / f"{name}.tsv", row)
    data = open_task(TASKS["mnli"], tmp_path)
    assert {suffix: e.labels for suffix, e in data.dev().items()} == {
        "_matched": [0],
        "_mismatched": [0],
    }


def test_broken_rows_of_qqp_are_left_out_and_of_others_refused(tmp_path: Path) -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    write(tmp_path / "QQP" / "dev.tsv", header + "1\t2\t3\ta\tb\t1\n4\t5\t6\tbroken\n")
    assert len(open_task(TASKS["qqp"], tmp_path).dev()[""]) == 1
    write(tmp_path / "SST-2" / "dev.tsv", "sentence\tlabel\nonly text\n")
    with pytest.raises(TaskError, match=r"dev\.tsv:2 has 1 column, not 2"):
        open_task(TASKS["sst2"], tmp_path).dev()


def test_a_table_of_ones_own_is_told_from_a_published_file_by_its_first_line(
    tmp_path: Path,
) -> None:
    """Only published files lack a header, have broken rows, and have quotes that are text."""
    cola = tmp_path / "cola.tsv"
    write(cola, 'sentence\tlabel\tid\tnote\n"Bad ""the""."\t0\t7\tx\nGood.\t1\t8\ty\n')
    examples = open_dev_file(TASKS["cola"], cola).dev()[""]
    assert (examples.texts, examples.labels) == ((['Bad "the".', "Good."],), [0, 1])
    write(cola, 'gj04\t1\t\t"Good" one.\ngj04\t0\t*\tBad the.\n')
    data = open_dev_file(TASKS["cola"], cola)
    assert data.dev()[""].texts == (['"Good" one.', "Bad the."],)
    assert data.notes == ()

    qqp = tmp_path / "qqp.tsv"
    write(qqp, "question1\tquestion2\tis_duplicate\na\tb\t1\nbroken\n")
    with pytest.raises(TaskError, match=r"qqp\.tsv:3 has 1 column, not 3"):
        open_dev_file(TASKS["qqp"], qqp).dev()

    mrpc = tmp_path / "mrpc.tsv"
    write(mrpc, 'sentence1\tsentence2\tlabel\n"a ""b"""\t"c"\t1\n')
    assert open_dev_file(TASKS["mrpc"], mrpc).dev()[""].texts == (['a "b"'], ["c"])
    write(mrpc, 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\t"a ""b"""\t"c"\n')
    assert open_dev_file(TASKS["mrpc"], mrpc).dev()[""].texts == (['"a ""b"""'], ['"c"'])


def test_jsonl_csv_and_parquet_with_the_column_names_of_datasets(tmp_path: Path) -> None:
    rows = [("a, with comma", "b", 0), ('c "quoted"', "d", 2)]
    jsonl = "".join(
        json.dumps({"premise": p, "hypothesis": h, "label": TASKS["mnli"].labels[label]}) + "\n"
        for p, h, label in rows
    )
    write(tmp_path / "jsonl" / "validation_matched.jsonl", jsonl)
    write(tmp_path / "jsonl" / "validation_mismatched.jsonl", jsonl)
    quoted = [[f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row[:2]] for row in rows]
    table = "premise,hypothesis,label\n" + "".join(
        f"{p},{h},{row[2]}\n" for (p, h), row in zip(quoted, rows, strict=True)
    )
    for split in ("dev_matched", "dev_mismatched"):
        write(tmp_path / "csv" / f"{split}.csv", table)
        columns = dict(zip(("premise", "hypothesis", "label"), map(list, zip(*rows)), strict=True))  # noqa: B905
        write_parquet(tmp_path / "pq" / f"{split}-00000-of-00001.parquet", **columns)
    found = [open_task(TASKS["mnli"], tmp_path / kind).dev() for kind in ("jsonl", "csv")]
    assert found[0] == found[1]
    assert found[0]["_matched"].texts == ([rows[0][0], rows[1][0]], ["b", "d"])
    assert found[0]["_matched"].labels == [0, 2]


@pytest.mark.parametrize(
    ("features", "label"),
    [
        ({"label": {"names": ["bad", "good"], "_type": "ClassLabel"}}, ["good", "bad", -1]),
        ({"label": {"names": ["bad"], "_type": "ClassLabel"}}, [1, "bad", -1]),
        ({"label": {"dtype": "int64", "_type": "Value"}, "gone": {"names": ["a"]}}, [1, 0, -1]),
        ({"label": {"names": [3, None]}}, [1, 0, -1]),
        ([], [1, 0, -1]),
        (None, [1, 0, -1]),
    ],
)
def test_classes_that_the_library_datasets_wrote_as_numbers_have_their_names(
    features: Any, label: list[Any], tmp_path: Path
) -> None:
    said = json.dumps({"info": {"features": features}}).encode()
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": said}), tmp_path / "t.parquet")
    task = own_task("own", ("text",), "label", "classification")
    records = records_of(task, tmp_path / "t.parquet")
    assert [record["label"] for _, record in records] == label


def test_tags_that_the_library_datasets_wrote_as_numbers_have_their_names(tmp_path: Path) -> None:
    tags = {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"}
    said = json.dumps({"info": {"features": {"ner_tags": tags}}}).encode()
    table = pa.table({"tokens": [["a", "b"]], "ner_tags": [[0, 1]]})
    file = tmp_path / "t.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": said}), file)
    data = open_own_task(
        "own",
        file,
        file,
        text_columns=["tokens"],
        label_column="ner_tags",
        kind="token-classification",
    )
    assert data.task.labels == ("O", "B-X")


def test_parquet_as_the_hub_stores_it(tmp_path: Path) -> None:
    for part in range(2):
        name = f"train-0000{part}-of-00002.parquet"
        write_parquet(tmp_path / "sst2" / name, sentence=[f"part {part}"], label=[part])
    name = "validation-00000-of-00001.parquet"
    write_parquet(tmp_path / "sst2" / name, sentence=["dev"], label=[1])
    data = open_task(TASKS["sst2"], tmp_path)
    assert data.train().texts == (["part 0", "part 1"],)
    assert data.dev()[""].texts == (["dev"],)


def squad_json(**changes: Any) -> str:
    answers = [{"text": "in May", "answer_start": 3}]
    question = {"id": "q1", "question": "When?", "answers": answers} | changes
    paragraph = {"context": "It in May was.", "qas": [question]}
    return json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]})


@pytest.mark.parametrize("suffix", [".json", ".json.xz"])
def test_squad_json_plain_and_packed(tmp_path: Path, suffix: str) -> None:
    for split in ("train", "dev"):
        path = tmp_path / f"{split}-v1.1{suffix}"
        text = squad_json().encode()
        path.write_bytes(lzma.compress(text) if suffix.endswith("xz") else text)
    dev = open_task(TASKS["squad"], tmp_path).dev()[""]
    assert dev == Examples(["q1"], (["When?"], ["It in May was."]), [Answers(("in May",), (3,))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (squad_json(answers=[]), "SQuAD v1.1"),
        (squad_json(answers=[{"text": "May", "answer_start": 3}]), "does not stand at 3"),
        ('{"data": [{}]}', "not in SQuAD's format"),
        ("{", "not in SQuAD's format"),
    ],
)
def test_squad_json_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "dev-v1.1.json", text)
    with pytest.raises(TaskError, match=message):
        open_task(TASKS["squad"], tmp_path).dev()


# --- what can be wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sst2", "text\tlabel\na\t1\n", "has no column 'sentence', but 'text', 'label'"),
        ("sst2", "sentence\tlabel\na\t2\n", r"dev\.tsv:2: the label '2' is none of sst2's: neg"),
        ("sst2", "sentence\tlabel\na\t2\n", "positive; check that the file is one of sst2"),
        ("mrpc", "Quality\t#1 String\t#2 String\n\ta\tb\n", "nothing in column 'Quality'"),
        ("sst2", "sentence\tlabel\n", r"dev\.tsv holds no examples; it needs at least one"),
        (
            "stsb",
            "sentence1\tsentence2\tscore\na\tb\tnan\n",
            "'nan' is not a number from 0 to 5; check",
        ),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\t5.1\n", "is not a number from 0 to 5"),
    ],
)
def test_examples_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    write(tmp_path / "dev.tsv", text)
    with pytest.raises(TaskError, match=message):
        open_task(TASKS[name], tmp_path).dev()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"sentence": "a", "label": None},
            r"dev\.jsonl:1 has nothing in column 'label'; fill it in",
        ),
        ({"sentence": "a", "label": " "}, "nothing in column 'label'"),
        ({"sentence": 3, "label": 1}, "is not a string"),
        ({"sentence": "\ud800", "label": 1}, "not valid Unicode"),
        ({"sentence": "a", "label": -1}, "the label -1"),
        ({"sentence": "a", "label": True}, "the label True"),
    ],
)
def test_records_that_do_not_fit_are_refused(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    write(tmp_path / "dev.jsonl", json.dumps(row))
    with pytest.raises(TaskError, match=message):
        open_task(TASKS["sst2"], tmp_path).dev()


def test_a_folder_without_the_files_says_which_it_should_have(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"SST-2: expected train and dev or validation, .*\.tsv"):
        open_task(TASKS["sst2"], tmp_path)
    with pytest.raises(TaskError, match="is no folder"):
        open_task(TASKS["sst2"], tmp_path / "none")
    write(tmp_path / "dev.tsv", "sentence\tlabel\na\t1\n")
    with pytest.raises(TaskError, match=r"no train file of sst2 in .*: expected train as \.tsv, "):
        open_task(TASKS["sst2"], tmp_path).train()
    squad = r"expected train and dev or validation, each as \*\.json, .*\.jsonl, \.parquet$"
    with pytest.raises(TaskError, match=squad):  # the table there cannot be its data
        open_task(TASKS["squad"], tmp_path)


def test_of_several_files_the_one_of_the_name_is_read(tmp_path: Path) -> None:
    def squad(name: str, count: int) -> None:
        answers = [{"text": "a", "answer_start": 0}]
        asked = [{"id": f"{i}", "question": "b", "answers": answers} for i in range(count)]
        document = {"data": [{"paragraphs": [{"context": "a b", "qas": asked}]}]}
        write(tmp_path / name, json.dumps(document))

    squad("train-v2.0.json", 1)
    squad("dev-tiny.json", 2)
    assert len(open_task(TASKS["squad"], tmp_path).dev()[""]) == 2
    squad("dev-v2.0.json", 3)
    with pytest.raises(TaskError, match=r": dev-tiny\.json, dev-v2\.0\.json\? Name it dev"):
        open_task(TASKS["squad"], tmp_path)
    squad("dev.json", 4)
    assert len(open_task(TASKS["squad"], tmp_path).dev()[""]) == 4


def test_mnli_without_one_of_its_two_dev_files_says_which(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"train and dev_matched or .* and dev_mismatched or "):
        open_task(TASKS["mnli"], tmp_path)
    for there, missing in [("matched", "mismatched"), ("mismatched", "matched")]:
        row = "sentence1\tsentence2\tgold_label\na\tb\tneutral\n"
        file = write(tmp_path / f"dev_{there}.tsv", row)
        message = f"no validation_{missing} file of mnli in .*: expected dev_{missing} or valid"
        with pytest.raises(TaskError, match=message):
            open_task(TASKS["mnli"], tmp_path)
        file.rename(tmp_path / "dev.tsv")  # one set, whichever it is
        assert open_task(TASKS["mnli"], tmp_path).dev()[""].labels == [1]
        (tmp_path / "dev.tsv").unlink()


# --- a user's own ----------------------------------------------------------------------------


def own(tmp_path: Path, *labels: Any, **options: Any) -> Any:
    file = tmp_path / "own.jsonl"
    write(file, "".join(json.dumps({"t": f"text {x}", "y": x}) + "\n" for x in labels))
    return open_own_task("mine", file, file, text_columns=["t"], label_column="y", **options)


def test_own_labels_become_classes_or_numbers(tmp_path: Path) -> None:
    names = own(tmp_path, "pos", "neg", "pos")
    assert (names.task.labels, names.train().labels) == (("neg", "pos"), [1, 0, 1])
    # These are names, not ids: 10 comes after 9, and 1 is the first.
    numbers = own(tmp_path, 10, 9, 1)
    assert (numbers.task.labels, numbers.train().labels) == (("1", "9", "10"), [2, 1, 0])
    measured = own(tmp_path, 1, 2.5)
    assert (measured.task.kind, measured.train().labels) == ("regression", [1.0, 2.5])
    assert own(tmp_path, 1, 2, kind="regression").train().labels == [1.0, 2.0]
    assert own(tmp_path, "2.5", "1_5").task.kind == "classification"  # 1_5 is no number
    with pytest.raises(TaskError, match="has a single label"):
        own(tmp_path, "a", "a")
    with pytest.raises(TaskError, match="too many for a classifier"):
        own(tmp_path, *map(str, range(1001)))


def test_own_pairs_in_csv_and_a_dev_label_that_training_has_not(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", 'x,y,l\n"one, two",three,yes\nfour,"fi\nve",no\n')
    dev = write(tmp_path / "b.csv", "x,y,l\na,b,maybe\n")
    data = open_own_task("m", train, dev, text_columns=["x", "y"], label_column="l")
    assert data.train().texts == (["one, two", "four"], ["three", "fi\nve"])
    with pytest.raises(TaskError, match=r"b\.csv:2: the label 'maybe' is none of m's: no, yes"):
        data.dev()
    with pytest.raises(
        TaskError, match="no column 'z', but 'x', 'y', 'l'; name yours with --label"
    ):
        open_own_task("m", train, dev, text_columns=["x"], label_column="z")
    with pytest.raises(TaskError, match="no file"):
        open_own_task("m", train, tmp_path / "none.csv", text_columns=["x"], label_column="l")


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("labels", [("pos", "", "neg"), ("0.5", "1.5", " ")])
def test_an_example_without_a_label_is_refused(
    tmp_path: Path, separator: str, labels: tuple[str, ...]
) -> None:
    file = tmp_path / ("own.csv" if separator == "," else "own.tsv")
    rows = ["x,y", *(f"text,{label}" for label in labels)]
    line = 2 + next(i for i, label in enumerate(labels) if not label.strip())
    message = rf"own\..sv:{line} has nothing in column 'y'; fill it in, or leave the example out"
    with pytest.raises(TaskError, match=message):
        own_file(file, "\n".join(rows).replace(",", separator).encode())


@pytest.mark.parametrize("label", [math.nan, math.inf, ["x"], {"a": 1}])
@pytest.mark.parametrize("kind", [None, "classification", "regression"])
def test_a_label_that_is_neither_a_name_nor_a_number_is_refused(
    tmp_path: Path, label: object, kind: str | None
) -> None:
    with pytest.raises(
        TaskError, match=r"own\.jsonl:2: the label .* neither a name nor a number; c"
    ):
        own(tmp_path, 1, label, 2, kind=kind)


def test_labels_of_the_dev_set_that_do_not_fit_say_what_to_do(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", "x,y\na,neg\nb,pos\n")
    dev = write(tmp_path / "b.csv", "x,y\na,meh\n")

    def read_dev() -> dict[str, Examples]:
        return open_own_task("m", train, dev, text_columns=["x"], label_column="y").dev()

    with pytest.raises(TaskError, match="'meh' is none of m's: neg, pos; correct it, or give exam"):
        read_dev()
    write(train, "x,y\na,0.5\n")
    with pytest.raises(
        TaskError, match="'meh' is not a finite number; correct it, or fine-tune with"
    ):
        read_dev()


def own_file(path: Path, content: bytes) -> TaskData:
    path.write_bytes(content)
    return open_own_task("own", path, path, text_columns=["x"], label_column="y")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"x\ty\na\t0\nb\t1\tmore\n", r"a\.tsv:3 has 3 columns, not 2; .* between tabs"),
        ("a.tsv", b"x\ty\na\t0\nb\n", r"a\.tsv:3 has 1 column, not 2; .* between tabs"),
        ("a.csv", b"x,y\na,0\nb,1,\n", r"a\.csv:3 has 3 columns, not 2; .* between commas"),
        ("a.csv", b'x,y\n"a\nb",0\n\nc\n', r"a\.csv:5 has 1 column, not 2; .* between commas"),
        ("a.csv", b'x,y\na,0\n"b,1\nc,0\n', r"a\.csv:3 is not CSV: .*; a field with a comma, a q"),
        ("a.csv", b'x,y\n"a"b,0\n', r"a\.csv:2 is not CSV: .* is written twice"),
        (
            "a.csv",
            "x,y\nna\u00efve,0\n".encode("latin-1"),
            r"a\.csv is not UTF-8 \(byte 6\); .*iconv",
        ),
        (
            "a.tsv",
            "x\ty\n\u00ef\t0\n".encode("latin-1"),
            r"a\.tsv is not UTF-8 \(byte 4\); .*iconv",
        ),
        ("a.csv", b"x,y\na\0,0\n", r"a\.csv is a binary file \(a zero at byte 5\), not text"),
        ("a.tsv", b"x\ty\na\0\t0\n", r"a\.tsv is a binary file \(a zero at byte 5\), not text"),
        ("a.csv", b"x,y,y\na,0,1\n", r"a\.csv has 2 columns 'y'; rename all but the one"),
        ("a.tsv", b"x\tx\tx\ty\na\tb\tc\t1\n", r"a\.tsv has 3 columns 'x'; rename all but the one"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(TamtctlError, match=message) as caught:
        own_file(tmp_path / name, content)
    assert "\n" not in str(caught.value)


def test_a_blank_line_and_two_columns_that_nobody_reads_are_no_fault(tmp_path: Path) -> None:
    for separator, suffix in [("\t", "tsv"), (",", "csv")]:
        lines = ["x,y,,", "a,0,,", "", "b,1,,", "", ""]
        for end in ("\n", "\r\n"):
            content = end.join(lines).replace(",", separator).encode()
            train = own_file(tmp_path / f"own.{suffix}", content).train()
            assert (train.texts, train.labels) == ((["a", "b"],), [0, 1])
        assert read_texts(tmp_path / f"own.{suffix}", ["x"]) == [("a",), ("",), ("b",), ("",)]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.tsv", "x\ty\n"), ("a.csv", "x,y\r\n"), ("a.jsonl", "\n"), ("a.csv", "")],
)
def test_a_file_without_examples_is_named(tmp_path: Path, name: str, content: str) -> None:
    none = write(tmp_path / name, content)
    full = write(tmp_path / "full.csv", "x,y\na,0\nb,1\n")
    message = f"^{none} {'holds no examples' if content else 'is empty'}; it needs at least one"
    for train, dev in [(none, full), (full, none)]:
        with pytest.raises(TaskError, match=message):
            open_own_task("m", train, dev, text_columns=["x"], label_column="y").dev()


def test_fields_of_csv_are_read_whole(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = "many words " * 20_000
    rows = f'\ufeffx,y\r\n"two\r\nlines, ""quoted""\n",0\r\n{long},1\r\n'
    assert own_file(tmp_path / "a.csv", rows.encode()).train().texts == (
        ['two\r\nlines, "quoted"\n', long],
    )
    assert csv.field_size_limit() == limit
    assert own_file(tmp_path / "mac.csv", b"x,y\ra,0\rb,1\r").train().texts == (["a", "b"],)


def test_of_glues_own_tsv_cells_without_a_name_are_dropped(tmp_path: Path) -> None:
    header = "index\tsentence1\tsentence2\tlabel\n"
    write(tmp_path / "dev.tsv", header + "0\ta\tb\t1\tmore\n")
    assert open_task(TASKS["wnli"], tmp_path).dev()[""].labels == [1]


def test_text_to_label_is_read_from_lines_or_columns(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.txt", "one\r\n\n \ntwo\fthree\u2028four\n\nfive")
    wanted = ["one", "", " ", "two\fthree\u2028four", "", "five"]
    assert read_texts(lines, ["any"]) == [(text,) for text in wanted]
    table = write(tmp_path / "a.tsv", "x\ty\n1\t2\n")
    assert read_texts(table, ["y", "x"]) == [("2", "1")]
    with pytest.raises(UsageError, match="reads pairs"):
        read_texts(tmp_path / "a.txt", ["x", "y"])
    with pytest.raises(TaskError, match="nothing to label"):
        read_texts(write(tmp_path / "empty.txt", ""), ["x"])
    with pytest.raises(TaskError, match="no file"):
        read_texts(tmp_path / "none.txt", ["x"])


# --- python-docs-topic, and subsets ----------------------------------------------------------


def test_python_docs_topic_is_made_from_this_python() -> None:
    data = open_task(TASKS["python-docs-topic"])
    train, dev = data.train(), data.dev()[""]
    assert len(data.task.labels) == 10
    assert not set(train.texts[0]) & set(dev.texts[0])
    assert len(train) > 3 * len(dev) > 500
    largest = max(dev.labels.count(label) for label in range(10))
    assert largest < len(dev) / 4  # no class is worth guessing
    assert open_task(TASKS["python-docs-topic"]).digest == data.digest


def test_smaller_subsets_are_part_of_larger_ones() -> None:
    ids = [str(i) for i in range(10_000)]
    everything = Examples(ids, (ids,), list(range(10_000)))
    small, large = everything.subset(1000), everything.subset(5000)
    assert (len(small), len(large), len(everything.subset(20_000))) == (1000, 5000, 10_000)
    assert set(small.ids) < set(large.ids)
    assert small.texts[0] == small.ids == [str(label) for label in small.labels]
    assert everything.subset(1000) == small  # the same for every seed and every ticket


@pytest.mark.parametrize(
    ("task", "header", "rows", "label"),
    [
        ("stsb", "sentence1\tsentence2\tscore", ["a\tb\t2.5"], "2.5"),
        ("stsb", "sentence1\tsentence2\tscore", ["a\tb\t2.5", "c\td\t2.5"], "2.5"),
        ("cola", None, ["x\t1\t\ta", "x\t1\t\tb"], "acceptable"),
    ],
)
def test_labels_that_nothing_can_correlate_with_are_refused(
    task: str, header: str | None, rows: list[str], label: str, tmp_path: Path
) -> None:
    write(tmp_path / "dev.tsv", "\n".join([header, *rows] if header else rows))
    data = open_task(TASKS[task], tmp_path)
    metric = TASKS[task].metrics[0]
    with pytest.raises(TaskError, match=f"every dev label is {label}, and {metric} is not defined"):
        data.dev()
    without_dev = replace(data, has_no_dev=True)
    with pytest.raises(TaskError, match="; give a --dev file with others"):
        without_dev.dev()


# --- the Hub, over loopback ------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    readme = (
        "---\nconfigs:\n- config_name: sst2\n  data_files:\n  - split: train\n"
        "    path: sst2/train-*\n  - split: validation\n    path: sst2/validation-*\n---\n"
    )
    files = {"README.md": readme.encode()}
    for split, labels in [("train", [0, 1, 1]), ("validation", [1])]:
        sentences = [f"{split} {i}" for i in range(len(labels))]
        path = write_parquet(tmp_path / f"{split}.parquet", sentence=sentences, label=labels)
        files[f"sst2/{split}-00000-of-00001.parquet"] = path.read_bytes()
    with dataset_server.serve("nyu-mll/glue", files) as endpoint:
        yield endpoint


READ = """
import json
from tamtctl.foundations.errors import TaskError
from tamtctl.tasks.labelled.opening import open_task
from tamtctl.tasks.registry import TASKS
try:
    data = open_task(TASKS["sst2"])
    splits = data.train(), data.dev()[""]
    print(json.dumps([[split.texts[0], split.labels] for split in splits]))
except TaskError as error:
    print(json.dumps(str(error)))
"""


def test_glue_from_the_hub(hub: str, tmp_path: Path) -> None:
    train, dev = dataset_server.run(READ, hub, tmp_path / "home")
    assert train == [["train 0", "train 1", "train 2"], [0, 1, 1]]
    assert dev == [["validation 0"], [1]]


def test_without_a_network_the_alternatives_are_named(tmp_path: Path) -> None:
    message = dataset_server.run(READ, "http://127.0.0.1:9", tmp_path / "home")
    assert "no network to the Hub to fetch nyu-mll/glue:sst2; give its files" in message
    assert "--data-dir" in message


# --- the real files --------------------------------------------------------------------------

COUNTS = {
    "sst2": (67_349, 872),
    "cola": (8_551, 1_043),
    "mrpc": (3_668, 408),
    "stsb": (5_749, 1_500),
    "wnli": (635, 71),
}


@needs_real_data
@pytest.mark.parametrize("name", COUNTS)
def test_the_real_files_of_glue_have_the_official_counts(name: str) -> None:
    data = open_task(TASKS[name], REAL / "glue")
    (dev,) = data.dev().values()
    assert (len(data.train()), len(dev)) == COUNTS[name]


@needs_real_data
@pytest.mark.parametrize("name", ["mnli", "qnli", "qqp"])
def test_the_real_subsets_in_json_lines(name: str) -> None:
    data = open_task(TASKS[name], REAL / "glue" / f"{name.upper()}-10k-subset")
    assert (len(data.train()), len(data.dev()[""])) == (8_999, 1_000)
    assert set(data.train().labels) == set(range(len(data.task.labels)))


@needs_real_data
def test_the_real_dev_set_of_squad() -> None:
    dev = open_task(TASKS["squad"], REAL).dev()[""]
    assert len(dev) == len(set(dev.ids)) == 10_570
    assert sum(len(answers.texts) for answers in dev.labels) == 34_726
