"""The benchmarks, one row each: public tasks, and where their examples come from.

Imports nothing heavy. To add a benchmark of an existing kind (`tamtctl.tasks.kinds.table`), add a
row below; another package calls `register(Benchmark(task=Task(...)))` before it is used.
Then ``finetune``, ``evaluate`` and ``compare --tasks`` know it by its name.
"""

from __future__ import annotations

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Shelf
from tamtctl.pruning.objectives import objectives
from tamtctl.tasks.benchmarks.benchmark import Benchmark
from tamtctl.tasks.benchmarks.glue import GLUE
from tamtctl.tasks.kinds.table import KINDS
from tamtctl.tasks.measures import MEASURES
from tamtctl.tasks.task import Task


class _Benchmarks(Shelf[Benchmark]):
    """The shelf of benchmarks: each is of a known kind and has metrics of that kind."""

    def register(self, row: Benchmark) -> Benchmark:
        task, about = row.task, f"the benchmark {row.name}"
        kind = KINDS.find(task.kind)
        known = [metric.name for metric in kind.metrics]
        if unknown := [name for name in task.metrics if name not in known]:
            raise UsageError(
                f"{about} has a metric {unknown[0]!r}, which is none of {kind.name}'s: "
                f"{', '.join(known)}"
            )
        if not (task.metrics and task.columns and task.dev_splits):
            raise UsageError(f"{about} needs metrics, columns to read, and a split to be scored on")
        if not (task.is_public or row.code):
            raise UsageError(
                f"{about} does not say where its examples are; give its hub=(DATASET, CONFIG), the "
                "name of its folder, or the code that makes them"
            )
        measures = {
            *objectives(),
            *MEASURES,
            *(other.zero_shot for other in self.values() if other.zero_shot),
        }
        if row.name in measures:
            raise UsageError(
                f"a benchmark cannot be called {row.name!r}, which is a measure of evaluate; give "
                "another name"
            )
        if row.zero_shot in {*measures, *self, row.name}:
            raise UsageError(
                f"what {about} measures without training cannot be called {row.zero_shot!r}, "
                "which is something else already; give another name"
            )
        return super().register(row)


BENCHMARKS: Shelf[Benchmark] = _Benchmarks(
    "benchmark",
    (
        *GLUE,
        Benchmark(
            task=Task(
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
            )
        ),
        Benchmark(
            task=Task(
                name="python-docs-topic",
                summary="which part of Python's standard library a paragraph documents (offline)",
                columns=("text",),
                metrics=("accuracy", "macro_f1"),
            ),
            code="tamtctl.tasks.benchmarks.python_docs_topic",
        ),
    ),
)
register = BENCHMARKS.register


def zero_shot_tasks() -> dict[str, Task]:
    """Return the benchmarks that ``evaluate`` measures without training: name → task."""
    return {row.zero_shot: row.task for row in BENCHMARKS.values() if row.zero_shot}


def tasks_without_training() -> tuple[str, ...]:
    """Return the names of the tasks, losses aside, that are measured without training."""
    return (*zero_shot_tasks(), *MEASURES)


def all_without_training() -> tuple[str, ...]:
    """Return the names of all that ``evaluate`` measures without training; no task may have one."""
    return (*objectives(), *tasks_without_training())
