"""The examples of a run: those to train on, to score on and to hold out, and notes on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.labelled.dev_split import DevSplit
from tamtctl.tasks.labelled.notes import overlap_notes
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.task import Task


@dataclass(frozen=True)
class RunExamples:
    """The examples of a run.

    Attributes:
        train: The examples to train on.
        dev: Suffix of a metric's name → the examples to measure on.
        notes: Notes on the examples.
        held_out: The part of the training set that patience or the search for a rate looks at;
            None without either.
        apart: The training set without the held-out part.
    """

    train: Examples
    dev: dict[str, Examples]
    notes: list[str]
    held_out: Examples | None
    apart: Examples

    @classmethod
    def of(cls, config: FinetuneConfig, data: TaskData) -> RunExamples:
        """Read the examples; without a dev set, part of the training set becomes it.

        Raises:
            TaskError: The data cannot be read, or too few examples can be held out.
        """
        train_set, notes, task = data.train(), [], data.task
        if not data.has_no_dev:
            dev_sets = data.dev()
        else:
            split = DevSplit.of(task, train_set, name=data.name, advice="give a --dev file")
            data.check_metric(split.held_out)
            notes.append(
                f"there is no --dev: {len(split.held_out):,} of the {len(train_set):,} examples of "
                f"{data.name} are held out to score on, and not trained on"
            )
            train_set, dev_sets = split.rest, {"": split.held_out}
        if config.limit:
            train_set = train_set.subset(config.limit, of_each=kind_of(task).class_of)
        if not (config.stops_on_held_out or config.find_learning_rate):
            return cls(train_set, dev_sets, notes, None, train_set)
        option = "--patience" if config.stops_on_held_out else "--find-learning-rate"
        name, advice = f"the training set of {task.name}", f"leave out {option}, or give more"
        split = DevSplit.of(task, train_set, name=name, advice=advice)
        use = "to stop by" if config.stops_on_held_out else "to find the learning rate on"
        notes.append(
            f"{len(split.held_out):,} of the {len(train_set):,} training examples are held out, "
            f"{use} ({option})"
        )
        trained = split.rest if config.stops_on_held_out else train_set
        return cls(trained, dev_sets, notes, split.held_out, split.rest)


def label_notes(
    data: TaskData, task: Task, train_set: Examples, dev_sets: Mapping[str, Examples]
) -> list[str]:
    """Return notes on the labels, and on texts that are in the training and the dev set."""
    splits = {"training": train_set} | {f"dev{suffix}": e for suffix, e in dev_sets.items()}
    notes: list[str] = []
    kind = kind_of(task)
    if data.labels:
        notes += kind.own_label_notes(data.labels, is_guessed=data.has_guessed_kind)
    for where, examples in splits.items():
        notes += kind.label_notes(examples, where)
    for examples in dev_sets.values():
        notes += overlap_notes(task, train_set, examples)
    return notes
