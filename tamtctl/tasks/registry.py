"""The tasks a ticket is fine-tuned on: their columns, labels, metrics and hyperparameters.

Imports nothing heavy, so that the command line can list and check them before it loads torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tamtctl.foundations.errors import UsageError

PYTHON_DOCS_TOPIC = "python-docs-topic"
STSB_ZERO_SHOT = "stsb-zero-shot"

CORRELATIONS = frozenset({"matthews_correlation", "pearson", "spearman"})
METRICS = CORRELATIONS | {"accuracy", "f1", "macro_f1", "exact_match"}

Kind = Literal["classification", "regression", "span"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One supervised task; hyperparameters are the paper's (TAMT, appendix A).

    Attributes:
        name: What the user calls it.
        summary: One line for ``--help``.
        kind: ``classification``, ``regression``, or ``span`` (extractive question answering).
        columns: The text columns, one or two, as `datasets` names them.
        label_column: The column of the label, as `datasets` names it.
        labels: Names of the classes, in the order of their ids; empty where there are none.
        metrics: Names of the official metrics, the primary one first; see
            `tamtctl.tasks.kinds.metrics`.
        dev_splits: Suffix of a metric's name → the split as `datasets` names it.
        hub: Dataset and configuration on the Hub; None where there is none.
        folder: GLUE's name for the folder of its files.
        other_names: Column in GLUE's files → its name here, where they differ.
        unnamed_columns: The columns of files that have no header line.
        has_broken_rows: GLUE's own file has rows that lack columns; everybody leaves them out.
        learning_rate: Peak rate.
        batch_size: Examples per optimiser step.
        epochs: Passes over the training set.
        max_length: Tokens per example, special tokens included; longer ones are cut.
        label_range: Smallest and largest label (``regression``); None: any number.
        stride: Tokens from the start of one window of a long context to the next (``span``).
    """

    name: str
    summary: str
    kind: Kind = "classification"
    columns: tuple[str, ...] = ("sentence1", "sentence2")
    label_column: str = "label"
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    dev_splits: Mapping[str, str] = field(default_factory=lambda: {"": "validation"})
    hub: tuple[str, str | None] | None = None
    folder: str | None = None
    other_names: Mapping[str, str] = field(default_factory=dict)
    unnamed_columns: tuple[str, ...] = ()
    has_broken_rows: bool = False
    learning_rate: float = 2e-5
    batch_size: int = 32
    epochs: int = 3
    max_length: int = 128
    label_range: tuple[float, float] | None = None
    stride: int = 0

    def epochs_for(self, limit: int | None) -> int:
        """Return the epochs for a training set cut to ``limit``: more for few shots."""
        return max(self.epochs, FEW_SHOT_EPOCHS) if limit and limit <= FEW_SHOTS else self.epochs

    @property
    def primary_metric(self) -> str:
        """The metric that stands for the task where one number must do."""
        return self.metrics[0] + next(iter(self.dev_splits))


FEW_SHOTS, FEW_SHOT_EPOCHS = 1000, 8  # TAMT, §4.4

_ENTAILMENT = ("entailment", "not_entailment")
_MATCHED = {"_matched": "validation_matched", "_mismatched": "validation_mismatched"}


def _glue(name: str, folder: str, summary: str, **values: object) -> Task:
    return Task(
        name=name,
        folder=folder,
        summary=summary,
        hub=("nyu-mll/glue", name),
        **values,  # type: ignore[arg-type]
    )


_ALL = (
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
    ),
    _glue(
        "stsb",
        "STS-B",
        "how similar are two sentences, 0 to 5",
        kind="regression",
        metrics=("pearson", "spearman"),
        label_range=(0.0, 5.0),
        other_names={"score": "label"},
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
    ),
    _glue(
        "mnli",
        "MNLI",
        "does the premise entail the hypothesis",
        columns=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        dev_splits=_MATCHED,
        other_names={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
    ),
    _glue(
        "qnli",
        "QNLI",
        "does the sentence answer the question",
        columns=("question", "sentence"),
        labels=_ENTAILMENT,
        other_names={"sentence1": "question", "sentence2": "sentence"},
    ),
    _glue("rte", "RTE", "does the first sentence entail the second", labels=_ENTAILMENT),
    _glue("wnli", "WNLI", "what does the pronoun refer to", labels=_ENTAILMENT[::-1]),
    Task(
        name="squad",
        folder="squad",
        summary="SQuAD v1.1: find the answer in the paragraph",
        kind="span",
        columns=("question", "context"),
        label_column="answers",
        metrics=("f1", "exact_match"),
        hub=("rajpurkar/squad", None),
        learning_rate=3e-5,
        batch_size=16,
        epochs=2,
        max_length=384,
        stride=128,
    ),
    Task(
        name=PYTHON_DOCS_TOPIC,
        summary="which part of Python's standard library a paragraph documents (offline)",
        columns=("text",),
        metrics=("accuracy", "macro_f1"),
    ),
)
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}


def find_task(name: str, *others: str) -> Task:
    """Return the task of a name.

    Args:
        name: A name in `TASKS`.
        *others: Further names that the caller knows, only to suggest them.

    Raises:
        UsageError: There is no such task; the message suggests the nearest.
    """
    if name in TASKS:
        return TASKS[name]
    known = [*TASKS, *others]
    near = difflib.get_close_matches(name.lower().replace("-", ""), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"no task {name!r}; {hint}known are {', '.join(known)}")


def own_task(name: str, columns: tuple[str, ...], label_column: str, kind: Kind) -> Task:
    """Return the task of a user's own labelled files; its labels are not known yet."""
    metrics = ("accuracy", "macro_f1") if kind == "classification" else ("pearson", "spearman")
    return Task(
        name=name,
        summary="a task of your own",
        kind=kind,
        columns=columns,
        label_column=label_column,
        metrics=metrics,
    )
