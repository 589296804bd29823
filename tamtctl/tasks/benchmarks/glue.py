"""The rows of GLUE (Wang et al., 2018), with the column names of its files and of the Hub."""

from __future__ import annotations

from tamtctl.tasks.benchmarks.benchmark import Benchmark
from tamtctl.tasks.task import Task

_ENTAILMENT = ("entailment", "not_entailment")
_MATCHED = {"_matched": "validation_matched", "_mismatched": "validation_mismatched"}


def _glue(
    name: str,
    folder: str,
    summary: str,
    *,
    zero_shot: str | None = None,
    header_marks: tuple[str, ...] = (),
    **values: object,
) -> Benchmark:
    task = Task(
        name=name,
        folder=folder,
        summary=summary,
        hub=("nyu-mll/glue", name),
        **values,  # type: ignore[arg-type]
    )
    return Benchmark(task=task, zero_shot=zero_shot, header_marks=header_marks)


GLUE = (
    _glue(
        "cola",
        "CoLA",
        "is the sentence grammatical",
        columns=("sentence",),
        labels=("unacceptable", "acceptable"),
        metrics=("matthews_correlation",),
        unnamed_columns=("source", "label", "mark", "sentence"),
    ),
    _glue(
        "sst2",
        "SST-2",
        "sentiment of film reviews",
        columns=("sentence",),
        labels=("negative", "positive"),
    ),
    _glue(
        "mrpc",
        "MRPC",
        "do two sentences of the news mean the same",
        labels=("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
        other_names={"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"},
        header_marks=("#1 ID", "#2 ID"),
    ),
    _glue(
        "stsb",
        "STS-B",
        "how similar are two sentences, 0 to 5",
        kind="regression",
        metrics=("pearson", "spearman"),
        label_range=(0.0, 5.0),
        other_names={"score": "label"},
        zero_shot="stsb-zero-shot",
        header_marks=("genre", "old_index"),
    ),
    _glue(
        "qqp",
        "QQP",
        "do two questions ask the same",
        columns=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
        other_names={
            "sentence1": "question1",
            "sentence2": "question2",
            "is_duplicate": "label",
        },
        has_broken_rows=True,
        header_marks=("qid1", "qid2"),
    ),
    _glue(
        "mnli",
        "MNLI",
        "does the premise entail the hypothesis",
        columns=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        dev_splits=_MATCHED,
        other_names={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
        header_marks=("promptID", "pairID"),
    ),
    _glue(
        "qnli",
        "QNLI",
        "does the sentence answer the question",
        columns=("question", "sentence"),
        labels=_ENTAILMENT,
        other_names={"sentence1": "question", "sentence2": "sentence"},
        header_marks=("index", "question", "sentence"),
    ),
    _glue(
        "rte",
        "RTE",
        "does the first sentence entail the second",
        labels=_ENTAILMENT,
        header_marks=("index", "sentence1", "sentence2"),
    ),
    _glue(
        "wnli",
        "WNLI",
        "what does the pronoun refer to",
        labels=_ENTAILMENT[::-1],
        header_marks=("index", "sentence1", "sentence2"),
    ),
)
