"""Labelled examples: from the Hub, GLUE's and SQuAD's own files, a user's files, or python-docs.

Whatever the source, a *record* is a mapping from column to value, and a task turns records into
`Examples`. Nothing is read before it is asked for: the dev split may be all there is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from tamtctl.data.text.sources import reading
from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.foundations.hub_commits import dataset_commit
from tamtctl.foundations.paths import expanded
from tamtctl.tasks.labelled.files import (
    BLANK,
    Record,
    kind_of,
    read_lines_with_ends,
    reading_notes,
    records_of,
)
from tamtctl.tasks.registry import CORRELATIONS, PYTHON_DOCS_TOPIC, TASKS, Kind, Task, own_task

TRAIN = "train"
MOST_EXAMPLES = 10_000_000
_SUFFIXES = (".tsv", ".jsonl", ".csv", ".parquet")
_OTHER_SUFFIXES = (".json", ".ndjson", ".xml", ".html", ".arrow", ".xlsx", ".xls", ".ods", ".pkl")
_JSON_SUFFIXES = (".json", ".json.xz", ".json.gz")
_MAX_CLASSES = 1000

# python-docs-topic: the largest parts of the library, and of each so many paragraphs at most, so
# that a classifier that always says the same is right in a tenth of all cases.
_TOPICS, _PARAGRAPHS, _WORDS = 10, 500, 8


@dataclass(frozen=True)
class Answers:
    """The accepted answers to one question: their texts and where each starts in the context."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """Labelled examples, column by column.

    Attributes:
        ids: A name for each, as the file has it, where it may repeat.
        texts: One or two columns of text.
        labels: A class id, a number, or `Answers` for each.
    """

    ids: list[str]
    texts: tuple[list[str], ...]
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, limit: int, *, of_each_class: bool = False) -> Examples:
        """Return ``limit`` random examples; a smaller subset is always part of a larger one.

        Args:
            limit: How many.
            of_each_class: Begin with an example of every class, lest a rare one be lost. That
                changes no subset that would have them all anyway.
        """
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(self)).tolist()
        if of_each_class:
            first: dict[Any, int] = {}
            for row in order:
                first.setdefault(self.labels[row], row)
            kept = set(first.values())
            order = [*first.values(), *(row for row in order if row not in kept)]
        return self.take(sorted(order[:limit]))

    def take(self, rows: Sequence[int]) -> Examples:
        """Return the examples of these rows, in their order."""
        return Examples(
            [self.ids[i] for i in rows],
            tuple([column[i] for i in rows] for column in self.texts),
            [self.labels[i] for i in rows],
        )

    @property
    def sha256(self) -> str:
        """Fingerprint of texts and labels, whatever file they came from."""
        digest = hashlib.sha256()
        for row in zip(*self.texts, self.labels, strict=True):
            line = [vars(value) if isinstance(value, Answers) else value for value in row]
            digest.update(json.dumps(line).encode() + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True)
class TaskData:
    """Where the examples of a task come from.

    Attributes:
        task: The task; the labels of a user's own are those of its training split.
        name: What it is read from, for people.
        digest: Identifies local files by their content, other sources by their name.
        records: Reads the records of a split, ``train`` or one of ``task.dev_splits``.
        commit: The commit of a Hub dataset; None for local files.
        labels: Those of a user's own training split, as they are in the file.
        notes: What a person should know of how the files are read.
        has_guessed_kind: Whether nobody said if the labels are classes or numbers.
        has_no_dev: There is but a training split.
    """

    task: Task
    name: str
    digest: str
    records: Callable[[str], Iterable[Record]]
    commit: str | None = None
    labels: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()
    has_guessed_kind: bool = False
    has_no_dev: bool = False

    @property
    def identity(self) -> dict[str, str]:
        """What the data are, by content or by their commit on the Hub, and their classes."""
        name, labels = self.task.name, self.task.labels
        classes = {f"classes of {name}": json.dumps(labels)} if labels else {}
        return {f"data of {name}": self.commit or self.digest} | classes

    def train(self) -> Examples:
        """Read the training split.

        Raises:
            TaskError: It cannot be read, is empty, or an example does not fit the task.
        """
        return self._examples(TRAIN)

    def dev(self) -> dict[str, Examples]:
        """Read the dev splits, by the suffix that their metrics get.

        Raises:
            TaskError: As in `train`; or the metric is a correlation, and all labels are the same.
        """
        found = {suffix: self._examples(split) for suffix, split in self.task.dev_splits.items()}
        for examples in found.values():
            self.check_metric(examples)
        return found

    def check_metric(self, examples: Examples) -> None:
        """Refuse labels with which nothing can correlate: a score of 0 would be made up.

        Args:
            examples: To score on.

        Raises:
            TaskError: The metric is a correlation, and all labels are the same.
        """
        metric, labels = self.task.metrics[0], self.task.labels
        if metric in CORRELATIONS and len(set(examples.labels)) == 1:
            label = examples.labels[0]
            raise TaskError(
                f"{self.name}: every dev label is {labels[label] if labels else label}, and "
                f"{metric} is not defined without two different ones; give more dev examples"
            )

    def _examples(self, split: str) -> Examples:
        rows = [_example(self.task, place, record) for place, record in self.records(split)]
        if not rows:
            raise TaskError(f"{self.name}: the split {split!r} of {self.task.name} is empty")
        ids = [str(number) if name is None else name for number, (name, _, _) in enumerate(rows)]
        texts = tuple(map(list, zip(*(texts for _, texts, _ in rows), strict=True)))
        return Examples(ids, texts, [label for _, _, label in rows])


def open_task(task: Task, data_dir: Path | None = None) -> TaskData:
    """Find the data of a task; only local files are looked at yet.

    Args:
        task: One of `tamtctl.tasks.registry.TASKS`.
        data_dir: A folder of its files, or GLUE's folder of all tasks; None: the Hub.

    Raises:
        TaskError: The folder has no such files.
    """
    if task.name == PYTHON_DOCS_TOPIC:
        return _python_docs(task)
    if data_dir is not None:
        return _local(task, data_dir)
    assert task.hub is not None
    dataset, config = task.hub
    name = dataset + (f":{config}" if config else "")
    commit = _hub_commit(dataset, config)
    return TaskData(task, name, name, partial(_hub_records, dataset, config, commit), commit)


def open_own_task(
    name: str,
    train: Path,
    dev: Path | None,
    *,
    text_columns: Sequence[str],
    label_column: str,
    kind: Kind | None = None,
) -> TaskData:
    """Find the data of a user's own task, and its labels.

    Args:
        name: What the user calls it.
        train: A tsv, csv, jsonl or parquet file.
        dev: Another one; None: there is none, and a part of the training set stands for it.
        text_columns: One or two columns.
        label_column: The column of the label.
        kind: ``classification`` or ``regression``; None: regression if the training labels are
            numbers, not all of them whole.

    Raises:
        TaskError: A file cannot be read, a column is missing, or there is but one label.
    """
    for file in filter(None, (train, dev)):
        _check_file(file, "check --train and --dev" if dev else "check --train")
    task = own_task(name, tuple(text_columns), label_column, kind or "classification")
    records = _split_records(task, {TRAIN: [train]}, TRAIN)
    values = [_label(task, place, record) for place, record in records]
    if kind is None and _are_measurements(values):
        task = own_task(name, task.columns, label_column, "regression")
    if task.kind == "classification":
        task = replace(task, labels=_class_names(train, values))
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


def open_dev_file(task: Task, dev: Path) -> TaskData:
    """Find one labelled file of a task of which all else is known, its labels included.

    Raises:
        TaskError: There is no such file, or it is of a kind that cannot be read.
    """
    _check_file(dev, "give a labelled file with --dev")
    return _of_files(replace(task, dev_splits={"": "validation"}), {"validation": dev})


def _check_file(file: Path, advice: str) -> None:
    if not file.is_file():
        raise TaskError(f"no file {str(file)!r}; {advice}")
    if kind_of(file) not in _SUFFIXES:
        raise TaskError(f"{file} is of no kind that can be read: use {', '.join(_SUFFIXES)}")


def _of_files(task: Task, files: Mapping[str, Path]) -> TaskData:
    name = ", ".join(map(str, files.values()))
    records = partial(_split_records, task, {split: [file] for split, file in files.items()})
    notes = tuple(itertools.chain.from_iterable(map(reading_notes, dict.fromkeys(files.values()))))
    return TaskData(task, name, _digest(files.values()), records, notes=notes)


def _are_measurements(values: Iterable[Any]) -> bool:
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError):
        return False
    return any(not number.is_integer() for number in numbers)


def _class_names(file: Path, values: Iterable[Any]) -> tuple[str, ...]:
    names = {str(value) for value in values}
    if len(names) < 2:
        raise TaskError(f"{file} has {len(names)} distinct labels; a classifier needs two or more")
    if len(names) > _MAX_CLASSES:
        raise TaskError(
            f"{file} has {len(names)} distinct labels, which is too many for a classifier; "
            "use --label-kind regression for numbers, or another --label-column"
        )
    are_numbers = all(re.fullmatch(r"-?\d{1,9}", name) for name in names)
    # Also of names that are the same number, such as 1 and 01, the order is never the set's own.
    return tuple(sorted(names, key=lambda name: (int(name) if are_numbers else 0, name)))


# --- examples --------------------------------------------------------------------------------


def _example(
    task: Task, place: str, record: Mapping[str, Any]
) -> tuple[str | None, tuple[str, ...], Any]:
    texts = tuple(_text(task, place, record, column) for column in task.columns)
    value = _label(task, place, record)
    if task.kind == "span":
        own = record.get("id")
        return place if own is None else str(own), texts, _answers(place, value, context=texts[1])
    label = _number(task, place, value) if task.kind == "regression" else _class(task, place, value)
    return None, texts, label


def _cell(task: Task, place: str, record: Mapping[str, Any], column: str) -> Any:
    for name in (column, *(other for other, own in task.other_names.items() if own == column)):
        if name in record:
            value = record[name]
            is_blank = isinstance(value, str) and not value.strip()
            if value is None or (is_blank and column == task.label_column):  # a text may be blank
                raise TaskError(
                    f"{place} has nothing in column {name!r}; fill it in, or leave the example out"
                )
            return value
    columns = ", ".join(map(repr, record)) or "none at all"
    option = "--text-column" if column in task.columns else "--label-column"
    advice = "" if task.name in TASKS else f"; name yours with {option}"
    raise TaskError(f"{place} has no column {column!r}, but {columns}{advice}")


def _label(task: Task, place: str, record: Mapping[str, Any]) -> Any:
    value = _cell(task, place, record, task.label_column)
    is_infinite = isinstance(value, float) and not math.isfinite(value)  # or NaN
    if task.kind != "span" and (is_infinite or not isinstance(value, str | Number)):
        raise TaskError(
            f"{place}: the label {value!r} is neither a name nor a number; correct it, or leave "
            "the example out"
        )
    return value


def _text(task: Task, place: str, record: Mapping[str, Any], column: str) -> str:
    value = _cell(task, place, record, column)
    if not isinstance(value, str):
        raise TaskError(f"{place}, column {column!r}, is not a string but {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TaskError(f"{place}, column {column!r}, is not valid Unicode") from error
    return value


def _class(task: Task, place: str, value: Any) -> int:
    """Return a class id; GLUE's files hold names or ids, a user's own are names throughout."""
    name = str(value)
    if name in task.labels:
        return task.labels.index(name)
    if task.name in TASKS and name in (ids := [str(i) for i in range(len(task.labels))]):
        return ids.index(name)
    known = ", ".join(task.labels[:20]) + (", …" if len(task.labels) > 20 else "")
    advice = _advice(task, "correct it, or give examples of it to train on, too")
    raise TaskError(f"{place}: the label {value!r} is none of {task.name}'s: {known}; {advice}")


def _number(task: Task, place: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    low, high = task.label_range or (-math.inf, math.inf)
    if not (math.isfinite(number) and low <= number <= high):
        wanted = f"a number from {low:g} to {high:g}" if task.label_range else "a finite number"
        advice = _advice(
            task, "correct it, or fine-tune with --label-kind classification if it is a name"
        )
        raise TaskError(f"{place}: the label {value!r} is not {wanted}; {advice}")
    return number


def _advice(task: Task, own: str) -> str:
    """Return what to do about a label that does not fit: a known task's labels cannot change."""
    return f"check that the file is one of {task.name}" if task.name in TASKS else own


def _answers(place: str, value: Any, context: str) -> Answers:
    try:
        texts = tuple(str(text) for text in value["text"])
        starts = tuple(int(start) for start in value["answer_start"])
        pairs = list(zip(texts, starts, strict=True))
    except (TypeError, KeyError, ValueError) as error:
        raise TaskError(
            f"{place}: answers must hold as many 'text' as 'answer_start', got {value!r}"
        ) from error
    if not pairs:
        raise TaskError(f"{place}: no answer; SQuAD v1.1 has one to every question, v2.0 has not")
    for text, start in pairs:
        if context[start : start + len(text)] != text:
            raise TaskError(
                f"{place}: the answer {text!r} does not stand at {start} of its context"
            )
    return Answers(texts, starts)


# --- local files -----------------------------------------------------------------------------


def _local(task: Task, data_dir: Path) -> TaskData:
    data_dir = expanded(data_dir)
    if not data_dir.is_dir():
        raise TaskError(f"--data-dir {str(data_dir)!r} is no folder")
    for folder in (data_dir, *(data_dir / name for name in (task.folder, task.name) if name)):
        files = _files(task, folder)
        if any(found for split, found in files.items() if split != TRAIN):
            break
    else:
        expected = " and ".join(map(_names, (TRAIN, *task.dev_splits.values())))
        raise TaskError(
            f"no data of {task.name} in {str(data_dir)!r}, nor in its folder {task.folder}: "
            f"expected {expected}, each as {_kinds(task)}"
        )
    if missing := [split for split in task.dev_splits.values() if split not in files]:
        if "validation" not in files:
            raise _no_split(task, missing[0], folder)
        task = replace(task, dev_splits={"": "validation"})  # MNLI with one dev set
    found = list(itertools.chain.from_iterable(files.values()))
    return TaskData(task, str(folder), _digest(found), partial(_split_records, task, files))


def _files(task: Task, folder: Path) -> dict[str, list[Path]]:
    splits = {TRAIN, "validation", *task.dev_splits.values()}
    return {
        split: found for split in sorted(splits) if (found := _split_files(task, folder, split))
    }


def _split_files(task: Task, folder: Path, split: str) -> list[Path]:
    """Return the file of a split, or its parts as the Hub stores them."""
    for stem in _stems(split):
        if task.kind == "span":
            for suffix in _JSON_SUFFIXES:
                if found := sorted(folder.glob(f"{stem}*{suffix}")):
                    return found[:1]
        for suffix in _suffixes(task):
            if (file := folder / f"{stem}{suffix}").is_file():
                return [file]
        if found := sorted(folder.glob(f"{stem}-*-of-*.parquet")):
            return found
    return []


def _stems(split: str) -> tuple[str, ...]:
    return (split,) if split == TRAIN else (split.replace("validation", "dev"), split)


def _names(split: str) -> str:
    return " or ".join(_stems(split))


def _suffixes(task: Task) -> tuple[str, ...]:
    """Return the suffixes of a split's file; the answers to a question fit no cell of a table."""
    return (".jsonl", ".parquet") if task.kind == "span" else _SUFFIXES


def _kinds(task: Task) -> str:
    json_files = [f"*{suffix}" for suffix in _JSON_SUFFIXES] if task.kind == "span" else []
    return ", ".join([*json_files, *_suffixes(task)])


def _no_split(task: Task, split: str, folder: Path) -> TaskError:
    return TaskError(
        f"no {split} file of {task.name} in {str(folder)!r}: expected {_names(split)} as "
        f"{_kinds(task)}"
    )


def _split_records(task: Task, files: Mapping[str, list[Path]], split: str) -> Iterator[Record]:
    if split not in files:
        raise _no_split(task, split, next(iter(files.values()))[0].parent)
    number = 0
    records = itertools.chain.from_iterable(records_of(task, file) for file in files[split])
    for number, record in enumerate(records, start=1):
        if number > MOST_EXAMPLES:  # they are held in memory, as are their tokens
            raise TaskError(
                f"{record[0]}: there are more than {MOST_EXAMPLES:,} examples; give a part of them"
            )
        yield record
    if not number:
        raise _no_examples(files[split])


def _no_examples(files: Sequence[Path]) -> TaskError:
    found = "holds no examples" if any(file.stat().st_size for file in files) else "is empty"
    return TaskError(
        f"{', '.join(map(str, files))} {found}; it needs at least one (the first line of a tsv or "
        "csv file is its header)"
    )


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with reading(file):
            digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()


# --- the Hub ---------------------------------------------------------------------------------


def _hub_commit(dataset: str, config: str | None) -> str:
    """Return the commit of a dataset; fails at once where `datasets` would try for long.

    Without an answer of the Hub it is the newest of those that `datasets` has on this disk.
    """
    import datasets

    from tamtctl.foundations.hub_requests import HubRequests

    with _hub_errors(dataset, config):
        try:
            hub = HubRequests(dataset, kind="dataset")
            return hub.ask(lambda: dataset_commit(dataset))
        except Exception:
            folder = Path(datasets.config.HF_DATASETS_CACHE, dataset.replace("/", "___"))
            cached = [path for path in folder.glob(f"{config or '*'}/*/*") if path.is_dir()]
            if not cached:
                raise
            return max(cached, key=lambda path: path.stat().st_mtime).name


def _hub_records(dataset: str, config: str | None, commit: str, split: str) -> Iterator[Record]:
    import datasets

    with _hub_errors(dataset, config):
        rows = datasets.load_dataset(dataset, config, split=split, revision=commit)
    return ((f"{dataset} {split} row {number}", row) for number, row in enumerate(rows))


@contextmanager
def _hub_errors(dataset: str, config: str | None) -> Iterator[None]:
    from tamtctl.foundations.hub_requests import HubRequests, UnreachableError

    name = dataset + (f":{config}" if config else "")
    instead = "give its files with --data-dir, or use the task python-docs-topic, which needs none"
    try:
        yield
    except Exception as error:  # a dataset can fail in as many ways as there are formats
        reason = HubRequests(dataset, kind="dataset").explained(error)
        if isinstance(reason, UnreachableError):
            line = f"no network to the Hub to fetch {name}; {instead} ({reason})"
        else:
            reason_line = reason or " ".join(str(error).split())[:300]
            line = f"cannot read the dataset {name}: {reason_line}; {instead}"
        raise TaskError(line) from error


# --- python-docs-topic -----------------------------------------------------------------------


def _python_docs(task: Task) -> TaskData:
    """Make the task from the documentation in this Python; a stable fifth is the dev split."""
    from tamtctl.data.text import python_docs

    part_of: dict[str, str | None] = {}
    for page in python_docs.documents():
        part = re.split(r"[./]", page.name)[0]
        for paragraph in page.text.split("\n"):
            if len(paragraph.split()) >= _WORDS:
                is_new = part_of.setdefault(paragraph, part) == part
                part_of[paragraph] = part if is_new else None  # in several parts: no answer
    sizes = Counter(part for part in part_of.values() if part and not part.startswith("_"))
    labels = tuple(sorted(sorted(sizes, key=lambda part: (-sizes[part], part))[:_TOPICS]))
    chosen = [
        paragraph
        for label in labels
        for paragraph in sorted((p for p in part_of if part_of[p] == label), key=_hash)[
            :_PARAGRAPHS
        ]
    ]

    def records(split: str) -> Iterator[Record]:
        for number, paragraph in enumerate(chosen):
            is_dev = int(_hash(paragraph), 16) % 5 == 0
            if is_dev == (split != TRAIN):
                yield (
                    f"python-docs paragraph {number}",
                    {"text": paragraph, "label": part_of[paragraph]},
                )

    digest = hashlib.sha256("\n".join(chosen).encode()).hexdigest()
    return TaskData(replace(task, labels=labels), "python-docs", digest, records)


def _hash(paragraph: str) -> str:
    return hashlib.sha256(paragraph.encode()).hexdigest()


def read_texts(file: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Read text to label: the lines of a text file, or columns of a tsv, csv, jsonl or parquet.

    Every line or row is one text, in order; of one that is blank or null, the text is empty.

    Args:
        file: Any of these kinds; a text file serves a single column.
        columns: The columns that the task reads.

    Raises:
        TaskError: The file cannot be read, lacks a column, or is empty.
    """
    if not file.exists() or file.is_dir():  # a pipe will do
        raise TaskError(f"no file {str(file)!r} to label")
    if kind_of(file) in _SUFFIXES:
        task = own_task("text", tuple(columns), "", "classification")
        texts = [
            tuple(_text_to_label(task, place, record, column) for column in columns)
            for place, record in records_of(task, file, with_blank=True)
        ]
    elif (kind := kind_of(file)) in _OTHER_SUFFIXES:
        raise TaskError(
            f"{file} is not read as text, for it is a {kind} file; make it {', '.join(_SUFFIXES)} "
            "or lines of text (.txt)"
        )
    elif len(columns) == 1:
        texts = [(line.rstrip("\r\n"),) for line in read_lines_with_ends(file)]
    else:
        raise UsageError(
            f"the task reads pairs of texts ({', '.join(columns)}); give a tsv, csv, jsonl or "
            f"parquet file with these columns, not {file}"
        )
    if not texts:
        raise TaskError(f"{file} holds nothing to label")
    return texts


def _text_to_label(task: Task, place: str, record: Mapping[str, Any], column: str) -> str:
    is_empty = record is BLANK or (column in record and record[column] is None)
    return "" if is_empty else _text(task, place, record, column)
