"""The shelf of kinds of task, one row each, with their metrics.

Imports nothing heavy. To add a kind of task:

1. Write a module with a class ``Code`` that derives from `tamtctl.tasks.kinds.base.TaskKind`: how a
   label is read, what the model reads, its loss, its predictions and its metrics.
2. Add a row below; another package calls `register(Kind(...))` before the kind is used.

A `tamtctl.tasks.task.Task` of the kind is a row in `tamtctl.tasks.benchmarks.table`. Users' own
labelled files can be of the kind with ``--label-kind`` if the row names ``own_metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Row, Shelf
from tamtctl.tasks.task import Task

TABLES = (".tsv", ".jsonl", ".csv", ".parquet")  # files whose cells hold texts and labels
NESTED = (".jsonl", ".parquet")  # those of them in which a label may be a list


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    Attributes:
        name: Its name in files and tables.
        higher_is_better: Its direction, the same for every kind that has a metric of this name.
        needs_different_labels: Whether it is undefined if all labels are the same.
    """

    name: str
    higher_is_better: bool = True
    needs_different_labels: bool = False

    def rank(self, value: float) -> float:
        """Return the value, negated if lower is better, so that the best has the highest rank."""
        return value if self.higher_is_better else -value

    def gain(self, value: float, other: float) -> float:
        """Return by how much a value is better than another one; negative if it is worse."""
        return self.rank(value) - self.rank(other)


@dataclass(frozen=True, kw_only=True)
class Kind(Row):
    """A kind of task.

    Attributes:
        name: Its name for ``--label-kind`` and in ``metrics.json``.
        code: The module that defines its class ``Code``.
        summary: What a label is, in a few words.
        head: The end of the class names in transformers of models with its head.
        metrics: All metrics that a task of the kind can have.
        own_metrics: Names of the metrics for a user's own labelled files, the primary one first;
            empty if these cannot be of this kind.
        columns: How many text columns a user's files may have.
        suffixes: Suffixes of the tables that its labels can be read from.
        own_suffixes: Suffixes of further files, which its code reads itself (``own_records``).
        other_names: Usual name of a column in its files → default name in a user's own task.
    """

    summary: str
    head: str = "ForSequenceClassification"
    metrics: tuple[Metric, ...]
    own_metrics: tuple[str, ...] = ()
    columns: tuple[int, ...] = (1, 2)
    suffixes: tuple[str, ...] = TABLES
    own_suffixes: tuple[str, ...] = ()
    other_names: Mapping[str, str] = field(default_factory=dict)

    def metric(self, name: str) -> Metric:
        """Return one of its metrics by name."""
        return next(metric for metric in self.metrics if metric.name == name)


class _Kinds(Shelf[Kind]):
    """The shelf of kinds; metrics of one name have the same direction in all of them."""

    def register(self, row: Kind) -> Kind:
        names = [metric.name for metric in row.metrics]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"the kind of task {row.name} needs metrics, each with its own name")
        if unknown := [name for name in row.own_metrics if name not in names]:
            raise UsageError(
                f"the kind of task {row.name} has no metric {unknown[0]!r}; it has "
                f"{', '.join(names)}"
            )
        for metric in row.metrics:
            for kind in self.values():
                for other in kind.metrics:
                    is_same = other.name == metric.name
                    if is_same and other.higher_is_better != metric.higher_is_better:
                        raise UsageError(
                            f"{metric.name} of the kind of task {row.name} goes the other way than "
                            f"that of {kind.name}; give it another name"
                        )
        return super().register(row)


KINDS: Shelf[Kind] = _Kinds(
    "kind of task",
    (
        Kind(
            name="classification",
            summary="one class of several",
            code="tamtctl.tasks.kinds.classification",
            metrics=(
                Metric("accuracy"),
                Metric("f1"),
                Metric("macro_f1"),
                Metric("matthews_correlation", needs_different_labels=True),
            ),
            own_metrics=("accuracy", "macro_f1"),
        ),
        Kind(
            name="regression",
            summary="a number",
            code="tamtctl.tasks.kinds.regression",
            metrics=(
                Metric("pearson", needs_different_labels=True),
                Metric("spearman", needs_different_labels=True),
            ),
            own_metrics=("pearson", "spearman"),
        ),
        Kind(
            name="relevance",
            summary="how relevant the second text is to the first, 0 or more",
            code="tamtctl.tasks.kinds.relevance",
            metrics=(Metric("ndcg@10"), Metric("mrr@10")),
            own_metrics=("ndcg@10", "mrr@10"),
            columns=(2,),
        ),
        Kind(
            name="span",
            summary="the answer to a question, where it stands in a text",
            code="tamtctl.tasks.kinds.span",
            head="ForQuestionAnswering",
            metrics=(Metric("f1"), Metric("exact_match")),
            suffixes=NESTED,
            own_suffixes=(".json",),
        ),
        Kind(
            name="token-classification",
            summary="a tag for every word",
            code="tamtctl.tasks.kinds.token_classification",
            head="ForTokenClassification",
            metrics=(Metric("f1"), Metric("precision"), Metric("recall"), Metric("accuracy")),
            own_metrics=("f1", "precision", "recall", "accuracy"),
            columns=(1,),
            suffixes=NESTED,
            own_suffixes=(".conll", ".bio", ".iob", ".txt", ".tsv"),
            other_names={"tokens": "text", "tags": "label", "ner_tags": "label"},
        ),
    ),
)
register = KINDS.register


def own_kinds() -> dict[str, Kind]:
    """Return name → row of the kinds that a user's own labelled files can be of."""
    return {name: kind for name, kind in KINDS.items() if kind.own_metrics}


def usual_kind() -> str:
    """Return the default kind, for labels that look like no other."""
    return next(iter(own_kinds()))


def kind_of_files(suffixes: Sequence[str]) -> str | None:
    """Return the kind that files of these suffixes must be of; None if they are tables."""
    for name, kind in own_kinds().items():
        if any(suffix in kind.own_suffixes and suffix not in TABLES for suffix in suffixes):
            return name
    return None


def higher_is_better(name: str) -> bool:
    """Return whether a higher value of a metric is better.

    Args:
        name: The name of a metric, with the suffix of its dev split.
    """
    known = [metric for kind in KINDS.values() for metric in kind.metrics]
    found = [metric for metric in known if name.startswith(metric.name)]
    return not found or max(found, key=lambda metric: len(metric.name)).higher_is_better


def direction(name: str) -> str:
    """Return ``, lower is better`` for such a metric, an empty text for others.

    Args:
        name: The name of a metric, with the suffix of its dev split.
    """
    return "" if higher_is_better(name) else ", lower is better"


def primary_metric(task: Task) -> Metric:
    """Return the primary metric of a task, which is its first one."""
    return KINDS[task.kind].metric(task.metrics[0])
