"""A tag for every word: files, tokens, metrics, and the way from a file to predictions."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from seqeval import metrics as seqeval
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

from tamtctl.foundations.errors import TamtctlError, TaskError, UsageError
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import ModelOutputs
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.loading import load_for_training
from tamtctl.tasks.kinds.metrics import metrics, resampled_metrics
from tamtctl.tasks.kinds.tagged_words import IGNORED, TaggedWords, first_tokens
from tamtctl.tasks.kinds.token_classification import Code
from tamtctl.tasks.labelled.opening import open_own_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import own_task

pytestmark = pytest.mark.usefixtures("working_folder")

Sentence = tuple[list[str], list[str]]


def sentences(count: int, seed: int = 0) -> list[Sentence]:
    """Sentences in which ``list`` and what follows it is one span, and ``file`` another."""
    words, found = random.Random(seed), []
    for _ in range(count):
        text, tags = [], []
        for word in words.choices(["the", "of", "time", "list", "file"], k=words.randint(2, 6)):
            text += ["list", "name"] if word == "list" else [word]
            tags += {"list": ["B-L", "I-L"], "file": ["B-F"]}.get(word, ["O"])
        found.append((text, tags))
    return found


def columns(rows: Sequence[Sentence], mark: str = " ") -> str:
    parts = ["\n".join(map(mark.join, zip(*row, strict=True))) + "\n" for row in rows]
    return "\n".join(parts)


def write(name: str, text: str) -> Path:
    Path(name).write_text(text)
    return Path(name)


def opened(train: str, dev: str | None = None, **values: Any) -> TaskData:
    usual: dict[str, Any] = {"text_columns": ("text",), "label_column": "label"}
    return open_own_task("own", Path(train), Path(dev) if dev else None, **usual | values)


ROWS = [(["EU", "rejects", "call"], ["B-ORG", "O", "O"]), (["Bonn"], ["B-LOC"])]
TASK = replace(
    own_task("own", ("text",), "label", "token-classification"),
    labels=("O", "B-F", "B-L", "I-L"),
)


# --- files -----------------------------------------------------------------------------------

FORMS = {
    "spaces.conll": columns(ROWS),
    "tabs.bio": columns(ROWS, "\t"),
    "several.txt": "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\ncall NN I-NP O\n"
    "\n-DOCSTART- -X- O O\n\n \nBonn NNP I-NP B-LOC\n\n\n",
    "remarks.iob": "# id 1 domain=en\nEU _ _ B-ORG\r\nrejects _ _ O\r\ncall _ _ O\n\n# id 2\n"
    "Bonn _ _ B-LOC",
    "ids.iob": "# id 1 domain=en\nEU _ _ B-ORG\nrejects _ _ O\ncall _ _ O\n\n"
    "# id 2 domain=en\nBonn _ _ B-LOC",
    "lines.jsonl": "\n".join(
        json.dumps({"tokens": words, "ner_tags": tags, "id": 1}) for words, tags in ROWS
    ),
    "text.jsonl": "\n".join(
        json.dumps({"text": " ".join(words), "label": tags}) for words, tags in ROWS
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_file_is_read_alike(name: str) -> None:
    write(name, FORMS[name])
    data = opened(name)
    train = data.train()
    assert data.task.kind == "token-classification"
    assert train.texts == ([tuple(words) for words, _ in ROWS],)
    assert train.labels == [tuple(tags) for _, tags in ROWS]
    assert data.task.labels == ("O", "B-LOC", "B-ORG")


def test_packed_files_and_tables_without_a_header() -> None:
    Path("a.conll.gz").write_bytes(gzip.compress(columns(ROWS).encode()))
    write("a.tsv", columns(ROWS, "\t"))
    packed, table = opened("a.conll.gz"), opened("a.tsv", kind="token-classification")
    assert packed.train().labels == table.train().labels == [tuple(tags) for _, tags in ROWS]


def test_a_hash_that_is_a_word_and_spaces_that_are_no_marks() -> None:
    write("a.conll", "# newdoc\n# O\nlist B-L\n\n#\tO\nthe\u00a0file\tB-F\n")
    assert opened("a.conll").train().texts == ([("#", "list"), ("#", "the\u00a0file")],)
    write("b.conll", "# sent_id = 1\n# NN _ O\nEU _ _ B-ORG\n\n# sent_id = 2\nit _ _ O\n")
    assert opened("b.conll").train().texts == ([("#", "EU"), ("it",)],)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.conll", "EU B-ORG\nrejects\n", r"a.conll:2 has a word without a tag \('rejects'\)"),
        ("a.conll", "\nEU X B-ORG\nto O\n", "a.conll:3 has 2 columns, and the first word of the"),
        ("a.bio", "EU\tB-ORG\nto\t\n", "a.bio:2 has no tag"),
        ("a.txt", "EU\tB-ORG\n\tO\n", "a.txt:2 has no word"),
        ("a.conll", "1 EU B-O\n2 to O\n3 it O\n", "a.conll:1: the first column numbers the words"),
        ("a.conll", "\n\n", "a.conll holds no examples"),
        ("a.conll", "EU O\nto O\n", "a.conll has but the tag 'O'; two are needed"),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["O", "B-X"]}\n{"tokens": ["a"], "tags": '
         '["O", "O"]}', "a.jsonl:2 has 2 tags and 1 words"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a"], "tags": [3]}',
         "a.jsonl:2: 3 among the tags is no name; tags are names, such as B-PER"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": [["a"]], "tags": ["B-X"]}',
         "a.jsonl:2, column 'text', is neither a string nor a list of words"),
        ("a.csv", "tokens,tags\n", "a.csv is of no kind that can be read: use .jsonl, .parquet"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_with_its_line(name: str, text: str, line: str) -> None:
    write(name, text)
    with pytest.raises(TamtctlError, match=line):
        opened(name, kind="token-classification").train()


def test_what_a_kind_cannot_read_is_refused() -> None:
    write("a.conll", columns(ROWS))
    with pytest.raises(TaskError, match=r"a.conll is of no kind that can be read: use .tsv, "):
        opened("a.conll", kind="regression")
    with pytest.raises(UsageError, match="token-classification reads one text: give --text-column"):
        opened("a.conll", text_columns=("a", "b"))


# --- tokens ----------------------------------------------------------------------------------


def byte_level(*, trim: bool) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([" ".join(tiny.WORDS)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def metaspace() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, show_progress=False)
    backend.train_from_iterator([" ".join(tiny.WORDS)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


TOKENIZERS = {
    "wordpiece": tiny.tokenizer,
    "byte-level": lambda: byte_level(trim=True),
    "byte-level, spaces counted": lambda: byte_level(trim=False),
    "metaspace": metaspace,
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_first_token_of_each_word(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    words = ["the", "data", "\u200b", "timer", "\n", "é", "file"]
    encoded = tokenizer(" ".join(words), return_offsets_mapping=True)
    spans = np.array(encoded["offset_mapping"])
    is_text = np.array([s == 0 for s in encoded.sequence_ids(0)])
    found = first_tokens(words, spans, is_text)
    pieces = [t.strip("Ġ▁") for t in tokenizer.convert_ids_to_tokens(encoded["input_ids"])]
    for word, place in zip(words, found, strict=True):
        if word in ("the", "data", "timer", "file"):
            assert word.startswith(pieces[place]) or pieces[place] == "[UNK]"
    assert found[4] == -1  # white space is no word
    read = found[found >= 0]
    assert (np.diff(read) > 0).all()


def test_tokens_are_those_of_transformers_own_words() -> None:
    words = ["the", "list", "zeit", "of", "timer", "file"]
    own = tiny.tokenizer()(words, is_split_into_words=True)
    wanted = [own.word_ids().index(i) for i in range(len(words))]
    task = replace(TASK)
    model, _ = load_for_training(task, str(tiny.save(Path("m"), "bert", with_head=False)))
    inputs = TextInputs.of(model, tiny.tokenizer(), 40)
    examples = Examples(["0", "1"], ([tuple(words), ("file",)],), [("O",) * 6, ("B-F",)])
    encoded = kind_of(task).encode(inputs, examples)
    assert isinstance(encoded, TaggedWords)
    assert encoded.firsts[0].tolist() == wanted
    batch = next(encoded.features.evaluation_batches(2))
    assert batch.input_ids[0, : len(own["input_ids"])].tolist() == own["input_ids"]
    # The loss is that of transformers: of the first tokens alone.
    labels = torch.full(batch.input_ids.shape, IGNORED)
    labels[0, wanted], labels[1, 1] = 0, 1
    theirs = model.eval()(**batch.inputs, labels=labels).loss
    assert kind_of(task).loss(model, batch).item() == pytest.approx(theirs.item(), rel=1e-6)
    # What is cut off is said, has no label, and the tag O.
    short = TextInputs.of(model, tiny.tokenizer(), 5)
    cut = kind_of(task).encode(short, examples)
    assert isinstance(cut, TaggedWords)
    assert [firsts.tolist() for firsts in cut.firsts] == [[1, 2, 3, -1, -1, -1], [1]]
    with torch.no_grad():
        outputs = [(b, model(**b.inputs)) for b in cut.features.evaluation_batches(2)]
    said = kind_of(task).predictions(examples, ModelOutputs(model, cut, outputs))
    assert said.values[0][3:] == ("O", "O", "O")
    assert said.confidences[0][3:] == [None, None, None]
    note = kind_of(task).cut_note([cut.features], "read more")
    assert note == (
        "1 sentence is too long and cut: 3 words of theirs are not read, and count as O; read more"
    )


# --- metrics ---------------------------------------------------------------------------------


def scored(said: list[str], wanted: list[str]) -> dict[str, float]:
    return metrics(TASK, [tuple(said)], Examples(["0"], (), [tuple(wanted)]))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("B-P I-P B-P O B-L", "B-P I-P B-P O O"),  # BIO
        ("I-P I-P B-P O I-L", "I-P I-P B-P O O"),  # its first kind
        ("B-P E-P S-P O S-L", "B-P E-P S-P O O"),  # BIOES
        ("B-P L-P U-P O U-L", "B-P L-P U-P O O"),  # BILOU
    ],
)
def test_spans_are_the_same_in_every_scheme(wanted: str, said: str) -> None:
    found = scored(said.split(), wanted.split())
    assert found == pytest.approx({"f1": 0.8, "precision": 1, "recall": 2 / 3, "accuracy": 0.8})


def test_tags_without_a_prefix_are_types_and_neighbours_one_span() -> None:
    assert scored(["PER", "PER", "O"], ["PER", "PER", "O"])["f1"] == 1
    assert scored(["TER", "O"], ["PER", "O"])["f1"] == 0  # not its first letter alone
    assert scored(["PER", "O"], ["PER", "PER"])["f1"] == 0
    assert scored([".", "L"], [".", "L"])["recall"] == 1
    notes = Code(TASK).own_label_notes([["PER", "B-LOC"]], is_guessed=True)
    assert notes[0].startswith("PER has no prefix such as B- or I-")
    assert notes[1] == "no word has the tag O: all words are taken for parts of spans"


@pytest.mark.parametrize("known", ["O B I", "B M E S"])
def test_bare_prefixes_are_spans_without_a_type_as_in_seqeval(known: str) -> None:
    task = replace(TASK, labels=tuple(known.split()))
    words = random.Random(2)
    rows = [tuple(words.choices(task.labels, k=12)) for _ in range(40)]
    said = [tuple(words.choices(task.labels, k=12)) for _ in range(40)]
    examples = Examples([""] * 40, (), rows)
    found = metrics(task, said, examples)
    inside = str.maketrans("M", "I")  # seqeval does not know M

    def bare(all_: list[tuple[str, ...]]) -> list[list[str]]:
        return [[tag.translate(inside) for tag in tags] for tags in all_]

    assert found["f1"] == pytest.approx(seqeval.f1_score(bare(rows), bare(said)))
    assert found["recall"] == pytest.approx(seqeval.recall_score(bare(rows), bare(said)))
    whole = resampled_metrics(task, said, examples, 3)
    assert whole["f1"].min() > 0
    assert "spans without a type" in kind_of(task).label_summary(examples)
    notes = kind_of(task).own_label_notes(rows, is_guessed=True)
    assert not any("no prefix" in note for note in notes)


def test_resampled_metrics_are_those_of_seqeval_on_each_resample() -> None:
    rows = sentences(60)
    tags = ("O", "B-F", "B-L", "I-L")
    words = random.Random(1)
    said = [
        tuple(t if words.random() < 0.8 else words.choice(tags) for t in own) for _, own in rows
    ]
    examples = Examples([""] * 60, (), [tuple(own) for _, own in rows])
    found = resampled_metrics(TASK, said, examples, 5)
    generator = np.random.Generator(np.random.Philox(key=0))
    for draw in range(5):
        picked = generator.integers(60, size=60).tolist()
        again = metrics(TASK, [said[i] for i in picked], examples.take(picked))
        assert {name: values[draw] for name, values in found.items()} == pytest.approx(again)


def test_notes_on_splits() -> None:
    def notes(*labels: tuple[str, ...]) -> list[str]:
        return kind_of(TASK).label_notes(Examples([], (), list(labels)), "dev")

    assert notes(("O", "B-F")) == []
    assert notes(("O", "O"), ("O",)) == ["every dev tag is O: with no span to find, f1 is 0"]
    assert notes(("B-X", "O", "B-X")) == [
        "no example to train on has the tag B-X, which is among the dev ones 2 times: it is never "
        "predicted"
    ]


# --- from a file to predictions --------------------------------------------------------------

OPTIONS = "--dense --epochs 6 --learning-rate 0.02 --batch-size 8 --threads 1 --json".split()


def test_from_a_file_to_predictions(bare_bert: Path, run: Run) -> None:
    write("train.conll", columns(sentences(50)))
    write("dev.conll", columns(sentences(40, seed=1), "\t"))
    at = ["--train", "train.conll", "--model", bare_bert, *OPTIONS]
    done = run("finetune", "ner", "--dev", "dev.conll", *at)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["metric"], result["labels"]) == ("f1", "4 tags of F, L")
    assert (result["constant_answer"], result["constant_score"]) == ("O", 0)
    assert result["mean"] > 0.8
    assert result["standard_error"] < 0.1
    checkpoint = Path(result["checkpoint"][0])
    row = json.loads((checkpoint / "predictions.jsonl").read_text().splitlines()[0])
    assert len(row["prediction"]) == len(row["confidence"]) == len(row["label"])
    score = json.loads(run("evaluate", checkpoint, "--json").out)
    assert score["metrics"] == pytest.approx({n: m["mean"] for n, m in result["metrics"].items()})

    model = AutoModelForTokenClassification.from_pretrained(checkpoint).eval()
    assert model.config.id2label == dict(enumerate(TASK.labels))
    assert model.config.label2id == {tag: i for i, tag in enumerate(TASK.labels)}
    words = "the list name of file".split()
    with torch.no_grad():
        logits = model(**tiny.tokenizer()([" ".join(words)], return_tensors="pt")).logits[0, 1:-1]
    wanted = [TASK.labels[i] for i in logits.argmax(-1)]
    write("new.txt", " ".join(words) + "\n\n")
    write("new.jsonl", json.dumps({"tokens": words}) + "\n" + json.dumps({"tokens": None}))
    write("new.conll", "\n".join(words) + "\n\nfile\n")
    write("tagged.txt", columns([(words, ["O"] * 5)]))
    for name, more in (("new.txt", []), ("new.jsonl", []), ("new.conll", None), ("tagged.txt", 0)):
        answer = run("evaluate", checkpoint, "--predict", name, "--json")
        assert answer.code == 0, answer.err
        found = json.loads(answer.out)
        first, *rest = found["predictions"]
        assert (first["text"], first["prediction"]) == ([words], wanted)
        assert len(first["confidence"]) == 5
        if more == []:
            assert (rest[0]["prediction"], rest[0]["confidence"]) == ([], [])
        assert len(rest) == (0 if more == 0 else 1)
    shown = run("evaluate", checkpoint, "--predict", "new.txt").out
    assert shown == "".join(f"{w}\t{t}\n" for w, t in zip(words, wanted, strict=True)) + "\n\n"
    assert run("evaluate", checkpoint, "--predict", "new.txt", "--quiet").out.splitlines() == [
        " ".join(wanted), "",
    ]  # fmt: skip


def test_without_a_dev_file_and_from_another_head(bare_bert: Path, run: Run) -> None:
    lines = [json.dumps({"tokens": words, "tags": tags}) for words, tags in sentences(60)]
    write("train.jsonl", "\n".join(lines))
    model = AutoModelForQuestionAnswering.from_pretrained(bare_bert)
    model.config.problem_type = "single_label_classification"
    model.save_pretrained("asked")
    tiny.tokenizer().save_pretrained("asked")
    options = ["--train", "train.jsonl", *OPTIONS, "--epochs", "1", "--max-length", "8"]
    done = run("finetune", "ner", "--model", "asked", *options)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert any("is for another kind of task (BertForQuestion" in note for note in result["notes"])
    assert any("words of theirs are not read, and count as O" in note for note in result["notes"])
    assert any("are held out to score on" in note for note in result["notes"])
    checkpoint = result["checkpoint"][0]
    again = run("evaluate", checkpoint, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["score"] == pytest.approx(result["mean"])
    refused = run("evaluate", checkpoint, "--task", "sst2")
    assert refused.code == 1
    assert "was fine-tuned on ner, not on sst2" in refused.err


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([["the", "list"]] * 3, "a.jsonl:1: 0 among the tags is no name; tags are names"),
        ([["the", "list"], [], ["the", "list"]], "a.jsonl:2 has no words; fill it in, or leave"),
    ],
)
def test_lists_of_labels_are_tags_without_being_told(rows: list[list[str]], line: str) -> None:
    tags: list[Any] = [0, 1] if rows[1] else ["O", "B-X"]
    records = [{"tokens": words, "tags": tags[: len(words)]} for words in rows]
    write("a.jsonl", "\n".join(map(json.dumps, records)))
    with pytest.raises(TamtctlError, match=line):
        opened("a.jsonl").train()
