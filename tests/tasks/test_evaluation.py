"""Evaluation: metrics by their definitions, checkpoints, losses with fixed noise, embeddings."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import tiny
import torch
from command_line import Run
from samples import own_config, squad_folder, ticket_for
from transformers import AutoModel, AutoModelForSequenceClassification

from tamtctl.foundations.errors import ModelError, TamtctlError, TaskError, TicketError, UsageError
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss
from tamtctl.tasks.evaluation.api import evaluate, label
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.result import Evaluation
from tamtctl.tasks.examples import Answers, Examples
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.kinds.metrics import metrics, standard_errors
from tamtctl.tasks.registry import TASKS
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def ticket(bert: Path) -> Path:
    return ticket_for(bert, bert.parent / "ticket")


# --- metrics ---------------------------------------------------------------------------------


def examples(labels: list[Any]) -> Examples:
    ids = [str(i) for i in range(len(labels))]
    return Examples(ids, (ids,), labels)


def test_classification_metrics_by_hand() -> None:
    predictions, labels = [1, 1, 1, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 1, 1, 1]
    tp, fp, fn, tn = 3, 1, 2, 2
    found = metrics(TASKS["mrpc"], predictions, examples(labels))
    assert found["accuracy"] == (tp + tn) / 8
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    found = metrics(TASKS["cola"], predictions, examples(labels))
    assert found == {"matthews_correlation": pytest.approx(matthews)}


def test_an_accuracy_is_exact() -> None:
    task = replace(TASKS["python-docs-topic"], labels=("a", "b", "c"))
    predictions = [i % 3 for i in range(40)]
    labels = [label if i < 19 else (label + 1) % 3 for i, label in enumerate(predictions)]
    assert metrics(task, predictions, examples(labels))["accuracy"] == 19 / 40  # not 0.47499999…


def test_correlations_by_hand() -> None:
    predictions, labels = [1.0, 2.0, 2.0, 5.0], [0.5, 3.0, 2.5, 2.75]
    found = metrics(TASKS["stsb"], predictions, examples(labels))
    assert found["pearson"] == pytest.approx(np.corrcoef(predictions, labels)[0, 1])
    ranks = [1, 2.5, 2.5, 4], [1, 4, 2, 3]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_who_always_says_the_same_correlates_with_nothing() -> None:
    found = metrics(TASKS["cola"], [1] * 8, examples([1, 1, 1, 1, 1, 0, 0, 0]))
    assert found == {"matthews_correlation": 0}  # torchmetrics itself says 0.18
    assert set(metrics(TASKS["stsb"], [2.0] * 4, examples([1.0, 2, 3, 4])).values()) == {0}


def test_squad_takes_the_best_accepted_answer_and_ignores_articles() -> None:
    answers = [
        Answers(("cat", "black cat"), (0, 0)),
        Answers(("1973",), (0,)),
        Answers(("in May",), (0,)),
    ]
    found = metrics(TASKS["squad"], ["The black cat!", "in 1973", ""], examples(answers))
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_standard_errors_of_metrics_are_those_of_resampling() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    predictions = np.where(generator.random(400) < 0.8, labels, 1 - labels)
    found = standard_errors(TASKS["mrpc"], predictions.tolist(), examples(labels.tolist()))
    share = float(np.mean(predictions == labels))
    assert found["accuracy"] == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.15)
    numbers = generator.normal(size=400)
    noisy = numbers + generator.normal(size=400)
    found = standard_errors(TASKS["stsb"], noisy.tolist(), examples(numbers.tolist()))
    assert found["pearson"] == pytest.approx((1 - 0.5) / math.sqrt(400), rel=0.25)  # (1 - r²) / √n


def test_standard_error_of_spans_is_that_of_a_mean() -> None:
    answers = [Answers(("a cat",), (0,)), Answers(("dog",), (0,)), Answers(("owl",), (0,))] * 12
    found = standard_errors(TASKS["squad"], ["cat", "dog", "fox"] * 12, examples(answers))
    wanted = np.std([1, 1, 0] * 12) / math.sqrt(36)
    assert found == {name: pytest.approx(wanted, rel=0.1) for name in ("exact_match", "f1")}


def test_standard_error_of_a_ratio() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(10, 30, 4000)
    sums = np.array([generator.normal(2, 1, n).sum() for n in counts])
    loss = HeldOutLoss(sums, counts)
    assert loss.mean == pytest.approx(2, abs=0.02)
    assert loss.standard_error == pytest.approx(1 / math.sqrt(counts.sum()), rel=0.1)


# --- fine-tuned checkpoints ------------------------------------------------------------------


def test_a_checkpoint_scores_what_its_run_said(bert: Path, ticket: Path) -> None:
    result = finetune(own_config(bert, ticket=str(ticket), epochs=8))
    found = evaluate(EvaluateConfig(name=str(result.checkpoint[0])))
    assert (found.task, found.metric, found.examples) == ("own", "accuracy", 24)
    assert found.metrics == pytest.approx({n: m.mean for n, m in result.metrics.items()})
    assert found.sparsity == result.sparsity
    Path("half.jsonl").write_text("\n".join(Path("own.jsonl").read_text().splitlines()[:12]))
    half = evaluate(EvaluateConfig(name=str(result.checkpoint[0]), dev="half.jsonl"))
    assert half.examples == 12


def test_another_dev_file_may_have_other_columns(bert: Path, run: Run) -> None:
    checkpoint = finetune(own_config(bert, dense=True)).checkpoint[0]
    rows = [json.loads(line) for line in Path("own.jsonl").read_text().splitlines()]
    lines = [f"{row['text']}\tunused\t{row['label']}" for row in rows]
    Path("other.tsv").write_text("\n".join(["body\ttext\ttopic", *lines]))
    command = ["evaluate", checkpoint, "--json", "--dev", "other.tsv"]
    found = run(*command, "--text-column", "body", "--label-column", "topic")
    wanted = evaluate(EvaluateConfig(name=str(checkpoint))).metrics
    assert json.loads(found.out)["metrics"] == wanted
    refusals = [
        ([], 1, "has no column 'label', but 'body', 'text', 'topic'; name yours with --label-col"),
        (["--text-column", "x"], 1, "has no column 'x', but"),
        (["--text-column", "a", "--text-column", "b"], 2, "give --text-column 1 times, not 2"),
    ]
    for options, code, message in refusals:
        done = run(*command, *options)
        assert done.code == code
        assert message in done.err


def test_a_checkpoint_is_scored_from_any_directory(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = finetune(own_config(bert, dense=True)).checkpoint[0].absolute()
    Path("dev.tsv").write_text("sentence\tlabel\n" + "the list\t1\na file\t0\n" * 2)
    Path("train.tsv").write_text(Path("dev.tsv").read_text())
    config = FinetuneConfig(task="sst2", data_dir=".", model=str(bert), dense=True, epochs=1)
    sst2 = finetune(config).checkpoint[0].absolute()
    assert json.loads((own / "metrics.json").read_text())["config"]["dev"] == "own.jsonl"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert evaluate(EvaluateConfig(name=str(own))).examples == 24
    assert evaluate(EvaluateConfig(name=str(sst2))).examples == 4
    (tmp_path / "own.jsonl").unlink()
    gone = re.escape(f"no file '{tmp_path / 'own.jsonl'}'; give a labelled file with --dev")
    with pytest.raises(TaskError, match=gone):
        evaluate(EvaluateConfig(name=str(own)))


def test_a_checkpoint_labels_text_of_ones_own(bert: Path) -> None:
    checkpoint = finetune(own_config(bert, dense=True, epochs=15)).checkpoint[0]
    rows = [json.loads(line) for line in Path("own.jsonl").read_text().splitlines()]
    Path("new.txt").write_text("\n".join(row["text"] for row in rows))
    found = label(EvaluateConfig(name=str(checkpoint)), Path("new.txt"))
    saved = [json.loads(x) for x in (checkpoint / "predictions.jsonl").read_text().splitlines()]
    assert found.predictions == [row["prediction"] for row in saved]
    assert set(found.confidences[0]) == {"file", "list"}
    config = EvaluateConfig(name=str(checkpoint), text_columns=("text",))
    assert label(config, Path("own.jsonl")).predictions == found.predictions
    with pytest.raises(UsageError, match="give --text-column 1 times, not 2"):
        label(EvaluateConfig(name=str(checkpoint), text_columns=("a", "b")), Path("new.txt"))


def test_questions_of_ones_own_are_answered(bert: Path, tmp_path: Path) -> None:
    folder = str(squad_folder(tmp_path / "squad"))
    config = FinetuneConfig(
        task="squad", data_dir=folder, model=str(bert), dense=True, learning_rate=1e-2, epochs=30
    )
    result = finetune(config)
    assert result.mean == 1  # six times the same question
    context = json.loads((tmp_path / "squad" / "dev-v1.1.json").read_text())
    paragraph = context["data"][0]["paragraphs"][0]
    row = {"question": "which name", "context": paragraph["context"]}
    Path("new.jsonl").write_text(json.dumps(row))
    found = label(EvaluateConfig(name=str(result.checkpoint[0])), Path("new.jsonl"))
    assert found.predictions == ["a list"]


def test_a_foreign_checkpoint_may_have_its_classes_in_another_order(
    bert: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "SST-2"
    folder.mkdir()
    rows = "".join(f"{w}\t{i % 2}\n" for i, w in enumerate(tiny.WORDS))
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text("sentence\tlabel\n" + rows)
    config = FinetuneConfig(
        task="sst2", data_dir=".", model=str(bert), dense=True, learning_rate=1e-2, epochs=20
    )
    checkpoint = finetune(config).checkpoint[0]
    first = evaluate(EvaluateConfig(name=str(checkpoint)))
    assert first.score > 0.7

    def foreign(labels: dict[str, str]) -> EvaluateConfig:
        (checkpoint / "metrics.json").unlink(missing_ok=True)
        saved = json.loads((checkpoint / "config.json").read_text())
        ids = {name: int(i) for i, name in labels.items()}
        text = json.dumps(saved | {"id2label": labels, "label2id": ids})
        (checkpoint / "config.json").write_text(text)
        return EvaluateConfig(name=str(checkpoint), task="sst2", data_dir=".")

    assert evaluate(foreign({"0": "LABEL_0", "1": "LABEL_1"})).score == first.score
    swapped = evaluate(foreign({"0": "POSITIVE", "1": "NEGATIVE"}))
    assert swapped.score == pytest.approx(1 - first.score)
    default = Path(foreign({"0": "LABEL_0", "1": "LABEL_1"}).name)
    names = {"positive": 0, "negative": 1}  # transformers 5 writes these alone, and reads them not
    model = AutoModelForSequenceClassification.from_pretrained(default, label2id=names)
    model.save_pretrained(checkpoint)
    by_stock = EvaluateConfig(name=str(checkpoint), task="sst2", data_dir=".")
    assert evaluate(by_stock).score == swapped.score
    with pytest.raises(ModelError, match=r"of the classes good, bad; give .* a checkpoint of sst2"):
        evaluate(foreign({"0": "good", "1": "bad"}))
    with pytest.raises(UsageError, match="give its --task"):
        label(EvaluateConfig(name=str(checkpoint)), Path("any.txt"))


# --- pre-training losses ---------------------------------------------------------------------


@pytest.fixture
def corpus() -> str:
    generator = np.random.default_rng(1)
    lines = [" ".join(map(str, generator.choice(tiny.WORDS, 30))) for _ in range(300)]
    Path("corpus.txt").write_text("\n".join(lines))
    return "corpus.txt"


def test_two_tickets_see_the_same_masked_tokens(bert: Path, ticket: Path, corpus: str) -> None:
    def loss(name: Path, **changes: Any) -> float:
        values: dict[str, Any] = {"task": "mlm", "corpus": (corpus,), "sequence_length": 32}
        return evaluate(EvaluateConfig(name=str(name), **(values | changes))).score

    nothing_pruned = ticket_for(bert, Path("all"), sparsity=0.0)
    dense = loss(bert)
    assert loss(nothing_pruned) == dense  # the same questions to both
    assert loss(bert, batch_size=3) == pytest.approx(dense, abs=1e-6)
    assert loss(ticket) != dense
    kd = evaluate(EvaluateConfig(name=str(ticket), task="kd", corpus=(corpus,), sequence_length=32))
    assert 0 < kd.score < 2
    assert kd.standard_error is not None
    assert 0 < kd.standard_error < kd.score
    assert loss(nothing_pruned, task="kd") == pytest.approx(0, abs=1e-6)
    both = evaluate(
        EvaluateConfig(name=str(ticket), task="mlm+kd", corpus=(corpus,), sequence_length=32)
    )
    assert both.score == pytest.approx(both.metrics["mlm"] + both.metrics["kd"])
    assert both.metrics["kd"] == pytest.approx(kd.score, abs=1e-6)


def test_the_tickets_own_head(bert: Path, corpus: str) -> None:
    encoder = load_encoder(str(bert), with_head=True)
    plain = Ticket.load(ticket_for(bert, Path("plain")))
    head = {
        name: torch.zeros_like(p)
        for name, p in encoder.model.named_parameters()
        if name.startswith("cls.") and "decoder.weight" not in name
    }
    with_head = Ticket.create(
        encoder.weights | load_encoder(str(bert), with_head=False).weights,
        dict(plain.masks),
        base_model_id=str(bert),
        revision=None,
        model_type="bert",
        target_sparsity=0.5,
        method="tamt",
        objective="mlm",
        search={"sequence_length": 24},
        metrics={},
        mlm_head=head,
    )
    with_head.save_pretrained("own")
    own = evaluate(EvaluateConfig(name="own", corpus=(corpus,), head="ticket"))
    assert (own.task, own.head) == ("mlm", "ticket")
    assert own.score == pytest.approx(math.log(len(tiny.VOCABULARY)), abs=1e-4)  # it knows nothing
    assert evaluate(EvaluateConfig(name="own", corpus=(corpus,))).score != own.score
    with pytest.raises(UsageError, match="has no masked-LM head of its own"):
        evaluate(EvaluateConfig(name="plain", corpus=(corpus,), head="ticket"))
    with pytest.raises(UsageError, match="is no ticket"):
        evaluate(EvaluateConfig(name=str(bert), corpus=(corpus,), head="ticket"))


def test_any_encoder_is_compared_with_the_dense_model_it_was_made_of(
    bert: Path, ticket: Path, corpus: str
) -> None:
    def kd(name: Path, **changes: Any) -> Evaluation:
        return evaluate(
            EvaluateConfig(
                name=str(name), task="kd", corpus=(corpus,), sequence_length=32, **changes
            )
        )

    write_checkpoint(str(ticket), Path("pruned"))
    pruned = kd(Path("pruned"), model=str(bert))
    assert pruned.score == pytest.approx(kd(ticket).score, abs=1e-6)
    assert kd(bert, model=str(bert)).score == pytest.approx(0, abs=1e-6)
    run = finetune(own_config(bert, ticket=str(ticket), learning_rate=1e-3))
    fine_tuned = kd(run.checkpoint[0])  # its run says what it was made of
    assert fine_tuned.score > 0
    assert fine_tuned.score != pytest.approx(pruned.score, abs=1e-4)
    assert fine_tuned.sparsity == run.sparsity


# --- sentence embeddings ---------------------------------------------------------------------


def test_zero_shot_similarity_is_the_cosine_of_mean_embeddings(
    bert: Path, ticket: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(2)
    pairs = [
        [" ".join(map(str, generator.choice(tiny.WORDS, n))) for n in generator.integers(2, 9, 2)]
        for _ in range(12)
    ]
    rows = [f"{a}\t{b}\t{i % 6}\n" for i, (a, b) in enumerate(pairs)]
    (tmp_path / "dev.tsv").write_text("sentence1\tsentence2\tscore\n" + "".join(rows))
    config = EvaluateConfig(name=str(bert), task="stsb-zero-shot", data_dir=".")
    found = evaluate(config)
    model, tokenizer = AutoModel.from_pretrained(bert, dtype=torch.float32), tiny.tokenizer()
    cosines = []
    with torch.no_grad():
        for pair in pairs:
            inputs = [tokenizer(text, return_tensors="pt") for text in pair]
            first, second = (model(**i).last_hidden_state.mean(1) for i in inputs)
            cosines.append(float(torch.cosine_similarity(first, second)))
    wanted = np.corrcoef(cosines, [i % 6 for i in range(12)])[0, 1]
    assert found.metrics["pearson"] == pytest.approx(wanted, abs=1e-4)
    assert evaluate(config) == found
    assert evaluate(EvaluateConfig(name=str(ticket), task="stsb-zero-shot", data_dir=".")) != found
    fine_tuned = finetune(own_config(bert, ticket=str(ticket)))
    config = EvaluateConfig(name=str(fine_tuned.checkpoint[0]), task="stsb-zero-shot", data_dir=".")
    assert evaluate(config).sparsity == fine_tuned.sparsity


# --- the command -----------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_not_asked_for_its_dense_model(run: Run) -> None:
    done = run("evaluate", "gone/model", "--task", "kd")
    assert done.code == 1
    assert "model 'gone/model' is neither a folder nor" in done.err


def test_what_is_not_defined_is_null_in_json_and_a_dash_to_people(
    bert: Path, corpus: str, run: Run
) -> None:
    command = ["evaluate", bert, "--task", "mlm", "--corpus", corpus, "--sequence-length", 32]

    def refuse(name: str) -> None:
        raise ValueError(name)

    of_one = json.loads(run(*command, "--blocks", 1, "--json").out, parse_constant=refuse)
    assert of_one["standard_error"] is None
    assert of_one["standard_errors"] == {"mlm": None}
    assert of_one["score"] > 0
    few = run(*command, "--blocks", 1)
    shown = few.out
    assert re.search(r"data +1 of \d+ sequences × 32 tokens of corpus\.txt\n", shown)
    assert "± – s.e. (nats per masked token)\n" in shown
    assert "too few held-out sequences (1) to tell" in few.err
    many = run(*command, "--blocks", 8)
    enough = many.out
    assert re.search(r"data +8 of .*\n.*\nmlm +\d\.\d{4} ± 0\.\d{4} s\.e\. \(nats per", enough)
    assert "too few" not in many.err
    Path("short.txt").write_text("the cat\n" * 15)
    by_lines = ["--corpus", "short.txt", "--rows", "lines", "--sequence-length", 32]
    short = run("evaluate", bert, "--task", "mlm", *by_lines)
    assert "± – s.e." in short.out
    assert "too few of the held-out sequences have masked tokens to tell: at least 8" in short.err


def be_piped(text: bytes) -> None:
    """Make the standard input of this process a pipe with a text."""
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    os.dup2(reading, 0)


def test_text_to_label_may_come_through_a_pipe(bert: Path) -> None:
    checkpoint = finetune(own_config(bert, dense=True)).checkpoint[0]
    Path("new.txt").write_text("the of a list\nthe of a file\n")
    wanted = label(EvaluateConfig(name=str(checkpoint)), Path("new.txt")).predictions
    process = processes.start(
        ["evaluate", checkpoint, "--predict", "-", "-q"],
        Path(),
        before=partial(be_piped, Path("new.txt").read_bytes()),
    )
    process.join()
    assert Path("out").read_text().splitlines() == wanted, Path("err").read_text()
    with pytest.raises(TaskError, match="no file"):
        label(EvaluateConfig(name=str(checkpoint)), Path())


def test_an_example_to_label_is_a_line(bert: Path, run: Run) -> None:
    checkpoint = finetune(own_config(bert, dense=True)).checkpoint[0]
    assert "own.jsonl (24 examples)" in run("evaluate", checkpoint).out
    text = "a\tfile\nof [b]é\u2028\x1b[1m"
    with Path("new.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], [text]])
    command = ["evaluate", checkpoint, "--predict", "new.csv"]
    assert run(*command).out.endswith("\t" + r"a\tfile\nof [b]é\u2028\x1b[1m" + "\n")
    Path("new.jsonl").write_text(json.dumps({"text": text}))
    command = ["evaluate", checkpoint, "--predict", "new.jsonl"]
    (line,) = run(*command).out.splitlines()
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["text"] == text
    assert json.loads(run(*command, "--json").out)["predictions"][0]["text"] == [text]


# --- refusals --------------------------------------------------------------------------------


def test_no_option_that_decides_what_is_scored_is_ignored(
    bert: Path, ticket: Path, run: Run
) -> None:
    own = finetune(own_config(bert, dense=True)).checkpoint[0]
    glue, labels = "the tasks of GLUE and SQuAD", "tasks of your own"
    refusals = [
        (f"{bert} --task sst2 --dev x", "--dev", glue),
        (f"{bert} --task sst2 --model x", "--model", glue),
        (f"{bert} --task sst2 --text-column x", "--text-column", glue),
        (f"{bert} --task python-docs-topic --data-dir x", "--data-dir", "python-docs-topic"),
        (f"{own} --data-dir x", "--data-dir", labels),
        (f"{own} --model x", "--model", labels),
        (f"{own} --head ticket", "--head", labels),
        (f"{own} --corpus x", "--corpus", labels),
        (f"{own} --blocks 3", "--blocks", labels),
        (f"{ticket} --task mlm --data-dir x", "--data-dir", "mlm"),
        (f"{ticket} --task kd --dev x", "--dev", "kd"),
        (f"{ticket} --task kd --head ticket", "--head", "kd"),
        (f"{ticket} --dev x", "--dev", "mlm"),
        (f"{bert} --task stsb-zero-shot --corpus x", "--corpus", "stsb-zero-shot"),
        (f"{own} --predict x --dev x", "--dev", "--predict"),
        (f"{own} --predict x --data-dir x", "--data-dir", "--predict"),
        (f"{own} --predict x --corpus python-docs", "--corpus", "--predict"),
        (f"{own} --predict x --head pretrained", "--head", "--predict"),
        (f"{own} --predict x --sequence-length 8", "--sequence-length", "--predict"),
    ]
    for arguments, option, other in refusals:
        done = run("evaluate", *arguments.split())
        assert done.code == 2, arguments
        assert done.err.startswith(f"error: {option} does not go with {other}: it is for ")
        assert done.err.count("\n") == 1
    done = run("evaluate", bert, "--task", "stsb-zero-shot", "--model", "x")
    assert done.err == (
        "error: --model is for a ticket and for kd, embedding and similarity, "
        f"and {bert} is no ticket\n"
    )
    assert done.code == 2


def test_what_cannot_be_scored_yet_is_told_how(bert: Path, ticket: Path, run: Run) -> None:
    result = finetune(own_config(bert, dense=True, seeds=(1, 2)))
    first, second = result.checkpoint
    Path("search").mkdir()
    ticket_for(bert, Path("search/ticket"))
    yet = f"is a ticket, which is not fine-tuned{{}} yet: tamtctl finetune {{}} --ticket {ticket}"
    refusals = [
        (f"{ticket} --task sst-2", 2, "no task 'sst-2'; did you mean sst2?"),
        (f"{ticket} --task sst2", 2, yet.format(" on sst2", "sst2")),
        (f"{ticket} --predict x", 2, yet.format("", "TASK")),
        (f"{ticket} --predict x --task sst2", 2, yet.format(" on sst2", "sst2")),
        (f"{first} --predict x --task mlm", 2, "--predict needs a task with labels, and mlm has"),
        (f"{bert} --predict x", 2, "does not say what it was fine-tuned on; give its --task"),
        (f"{result.run_folder}", 1, f"is a run; its checkpoints are {first}, {second}"),
        (f"{result.run_folder} --predict x", 1, f"is a run; its checkpoints are {first}, {second}"),
        ("search", 1, "'search' is a run; its ticket is 'search/ticket'"),
    ]
    for arguments, code, message in refusals:
        done = run("evaluate", *arguments.split())
        assert done.code == code, arguments
        assert message in done.err
        assert done.err.count("\n") == 1


def test_evaluations_that_are_refused(bert: Path, ticket: Path, corpus: str) -> None:
    own = finetune(own_config(bert, dense=True)).checkpoint[0]
    other = tiny.save(Path("other"), "bert", seed=5)
    (Path("broken")).mkdir()
    Path("broken/metrics.json").write_text("{")
    refusals: list[tuple[type[TamtctlError], str, dict[str, Any]]] = [
        (UsageError, "did you mean sst2", {"name": str(bert), "task": "sst3"}),
        (UsageError, "is not fine-tuned on sst2 yet", {"name": str(ticket), "task": "sst2"}),
        (UsageError, "give it with --model", {"name": str(bert), "task": "kd"}),
        (UsageError, "--model is for a ticket", {"name": str(bert), "model": "x"}),
        (
            ModelError,
            "is not made of model 'nano'",
            {"name": str(bert), "task": "kd", "model": "nano"},
        ),
        (
            ModelError,
            "is not fine-tuned for sst2",
            {"name": str(bert), "task": "sst2", "data_dir": "."},
        ),
        (ModelError, "fine-tuned on own, not on sst2", {"name": str(own), "task": "sst2"}),
        (ModelError, "masked-LM head, .*--task kd", {"name": str(own), "task": "mlm"}),
        (
            TicketError,
            "give the ticket's own --model",
            {"name": str(ticket), "model": str(other), "corpus": (corpus,)},
        ),
        (UsageError, "at most 40", {"name": str(bert), "sequence_length": 64}),
        (ModelError, "neither a folder nor", {"name": "no/such"}),
        (ModelError, "is damaged", {"name": "broken"}),
        (
            TaskError,
            "no data of stsb",
            {"name": str(bert), "task": "stsb-zero-shot", "data_dir": "."},
        ),
    ]
    Path("dev.tsv").write_text("sentence\tlabel\na\t1\n")
    for error, message, values in refusals:
        if values.get("task") == "stsb-zero-shot":
            Path("dev.tsv").unlink()
        with pytest.raises(error, match=message) as raised:
            evaluate(EvaluateConfig(**values))
        assert "\n" not in str(raised.value)
    wrongs: list[dict[str, Any]] = [
        {"head": "x"},
        {"blocks": 0},
        {"sequence_length": 4},
        {"device": "tpu"},
    ]
    for wrong in wrongs:
        with pytest.raises(UsageError):
            EvaluateConfig(**({"name": "nano"} | wrong))
