"""Finding the data of a task: of a benchmark, or of a user's own labelled files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.tasks.benchmarks.benchmark import MadeExamples
from tamtctl.tasks.benchmarks.table import BENCHMARKS
from tamtctl.tasks.examples import TRAIN
from tamtctl.tasks.kinds.code import code_of, kind_of
from tamtctl.tasks.kinds.table import KINDS, TABLES, kind_of_files, own_kinds, usual_kind
from tamtctl.tasks.labelled.files import no_such_file, reading_notes, suffix_of
from tamtctl.tasks.labelled.folders import files_digest, open_folder, split_records
from tamtctl.tasks.labelled.hub_datasets import open_dataset
from tamtctl.tasks.labelled.records import TaskData, cell_of
from tamtctl.tasks.registry import own_task
from tamtctl.tasks.task import LONGEST_NAME, Task


def open_task(task: Task, data_dir: Path | None = None) -> TaskData:
    """Find the data of a task, without reading the examples yet.

    Args:
        task: One of `tamtctl.tasks.registry.TASKS`.
        data_dir: The folder with its files, or one with a folder for each task, as of GLUE; None:
            the Hub.

    Raises:
        TaskError: The folder has no such files, or the Hub has none.
    """
    made = BENCHMARKS[task.name].made()
    if made is not None:
        return _of_made(task, made)
    return open_dataset(task) if data_dir is None else open_folder(task, data_dir)


def _of_made(task: Task, made: MadeExamples) -> TaskData:
    task = replace(task, labels=made.labels)
    return TaskData(task, made.source, made.digest, made.records.__getitem__)


def open_own_task(
    name: str,
    train: Path,
    dev: Path | None,
    *,
    text_columns: Sequence[str],
    label_column: str,
    kind: str | None = None,
) -> TaskData:
    """Find the data of a user's own task, and its labels.

    Args:
        name: The name that the user gives it.
        train: A tsv, csv, jsonl or parquet file, or one of a format of the kind.
        dev: Another such file; None: a part of the training set will be held out.
        text_columns: The one or two columns of text.
        label_column: The column of the label.
        kind: A name in `tamtctl.tasks.kinds.table.own_kinds`; None: the first kind that the
            training labels look like (regression if all are numbers, not all whole), else the
            default one.

    Raises:
        TaskError: A file cannot be read, a column is missing, or all labels are the same.
    """
    files = [train, dev] if dev else [train]
    said = kind or kind_of_files([suffix_of(file) for file in files])
    for file in files:
        _check_file(file, said, "check --train and --dev" if dev else "check --train")
    if said:
        _check_columns(said, text_columns)
    cells = list(_own_labels(train, text_columns, label_column, said))
    values = [value for _, value in cells]
    like = (name for name in own_kinds() if code_of(name).looks_like(values))
    chosen = said or next(like, usual_kind())
    _check_columns(chosen, text_columns)
    its_kind = kind_of(own_task(name, tuple(text_columns), label_column, chosen))
    for place, value in cells:
        its_kind.own_value(place, value)
    task = its_kind.with_labels_of(train, values)
    _check_names(task, train)
    found = _of_files(task, {TRAIN: train} | ({"validation": dev} if dev else {}))
    notes = found.notes
    if dev and train.samefile(dev):
        notes += (f"{train} is to train on and the dev file, too",)
    return replace(
        found,
        labels=tuple(values),
        notes=notes,
        has_guessed_kind=kind is None,
        has_no_dev=dev is None,
    )


def _own_labels(
    train: Path, text_columns: Sequence[str], label_column: str, kind: str | None
) -> Iterator[tuple[str, Any]]:
    """Yield place and cell of each label of a training file, before their kind is known."""
    task = own_task("own", tuple(text_columns), label_column, kind or usual_kind())
    if kind is None:
        names = {name: own for row in own_kinds().values() for name, own in row.other_names.items()}
        task = replace(task, other_names=names)
    for place, record in split_records(task, {TRAIN: [train]}, TRAIN):
        yield place, cell_of(task, place, record, label_column)


def open_dev_file(task: Task, dev: Path) -> TaskData:
    """Find a labelled file to measure on, for a task whose labels are known.

    Raises:
        TaskError: There is no such file, or its format cannot be read.
    """
    _check_file(dev, task.kind, "give a labelled file with --dev")
    return _of_files(replace(task, dev_splits={"": "validation"}), {"validation": dev})


def _check_columns(kind: str, columns: Sequence[str]) -> None:
    if len(columns) not in (counts := KINDS[kind].columns):
        texts, times = ("one text", "once") if 1 in counts else ("two texts", "twice")
        raise UsageError(f"{kind} reads {texts}: give --text-column {times}")


def _check_names(task: Task, file: Path) -> None:
    """Refuse names that a checkpoint of the task could not be read with."""
    names = {"the name": [task.name], "a label": task.labels}
    names |= {"a column": [*task.columns, task.label_column]}
    for what, told in names.items():
        if long := [name for name in told if len(name) > LONGEST_NAME]:
            raise TaskError(
                f"{file}: {what} has {len(long[0])} characters, more than {LONGEST_NAME}: "
                f"'{long[0][:30]}…'; shorten it, or check --label-column"
            )


def _check_file(file: Path, kind: str | None, advice: str) -> None:
    """Refuse a file that does not exist, or that the kind (None: any kind) cannot read."""
    if not file.is_file():
        raise TaskError(f"{no_such_file(file)}; {advice}")
    row = KINDS[kind] if kind else None
    suffixes = dict.fromkeys((*row.suffixes, *row.own_suffixes) if row else TABLES)
    if suffix_of(file) not in suffixes:
        raise TaskError(f"{file} is of no kind that can be read: use {', '.join(suffixes)}")


def _of_files(task: Task, files: Mapping[str, Path]) -> TaskData:
    read = dict.fromkeys(files.values())
    name = ", ".join(map(str, read))
    records = partial(split_records, task, {split: [file] for split, file in files.items()})
    notes = tuple(itertools.chain.from_iterable(reading_notes(task, file) for file in read))
    return TaskData(task, name, files_digest(files.values()), records, notes=notes)
