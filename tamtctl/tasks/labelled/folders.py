"""The folder of a task's files: which file holds which split, and their records."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tamtctl.data.text.reading import reading
from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import TaskError
from tamtctl.foundations.paths import expanded
from tamtctl.tasks.examples import TRAIN
from tamtctl.tasks.kinds.base import Record
from tamtctl.tasks.kinds.table import KINDS
from tamtctl.tasks.labelled.files import records_of
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.task import Task

MOST_EXAMPLES = 10_000_000


def open_folder(task: Task, data_dir: Path) -> TaskData:
    """Find the files of a task in a folder, or in the folder of its name in there.

    Args:
        task: Names its folder and its splits.
        data_dir: The folder with its files, or one with a folder for each task, as of GLUE.

    Raises:
        TaskError: The folder has no such files.
    """
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
    return TaskData(task, str(folder), files_digest(found), partial(split_records, task, files))


def _files(task: Task, folder: Path) -> dict[str, list[Path]]:
    splits = {TRAIN, "validation", *task.dev_splits.values()}
    return {
        split: found for split in sorted(splits) if (found := _split_files(task, folder, split))
    }


def _split_files(task: Task, folder: Path, split: str) -> list[Path]:
    """Return the file of a split, or the several files in which the Hub stores it.

    Raises:
        TaskError: Several files may be meant.
    """
    for stem in _stems(split):
        for suffix in _own_suffixes(task):
            if (file := folder / f"{stem}{suffix}").is_file():
                return [file]
        for suffix in _own_suffixes(task):
            found = sorted(folder.glob(f"{stem}*{suffix}"))
            if len(found) > 1:
                raise TaskError(
                    f"which file in {str(folder)!r} is {split} of {task.name}: "
                    f"{', '.join(file.name for file in found)}? Name it {stem}{suffix}"
                )
            if found:
                return found
        for suffix in KINDS[task.kind].suffixes:
            if (file := folder / f"{stem}{suffix}").is_file():
                return [file]
        if found := sorted(folder.glob(f"{stem}-*-of-*.parquet")):
            return found
    return []


def _stems(split: str) -> tuple[str, ...]:
    return (split,) if split == TRAIN else (split.replace("validation", "dev"), split)


def _names(split: str) -> str:
    return " or ".join(_stems(split))


def _own_suffixes(task: Task) -> list[str]:
    packed = ("", ".xz", ".gz")
    return [suffix + end for suffix in KINDS[task.kind].own_suffixes for end in packed]


def _kinds(task: Task) -> str:
    own_files = [f"*{suffix}" for suffix in _own_suffixes(task)]
    return ", ".join([*own_files, *KINDS[task.kind].suffixes])


def _no_split(task: Task, split: str, folder: Path) -> TaskError:
    return TaskError(
        f"no {split} file of {task.name} in {str(folder)!r}: expected {_names(split)} as "
        f"{_kinds(task)}"
    )


def split_records(task: Task, files: Mapping[str, list[Path]], split: str) -> Iterator[Record]:
    """Yield the records of a split.

    Args:
        task: Names the columns.
        files: Split → its files.
        split: The name of the split.

    Raises:
        TaskError: The split has no file, cannot be read, or has no or too many records.
    """
    if split not in files:
        raise _no_split(task, split, next(iter(files.values()))[0].parent)
    number = 0
    records = itertools.chain.from_iterable(records_of(task, file) for file in files[split])
    for number, record in enumerate(records, start=1):
        if number > MOST_EXAMPLES:  # examples and their tokens are held in memory
            raise TaskError(
                f"{record[0]}: there are more than {MOST_EXAMPLES:,} examples; give a part of them"
            )
        yield record
    if not number:
        raise _no_examples(files[split])


def _no_examples(files: Sequence[Path]) -> TaskError:
    found = "holds no examples" if any(file.stat().st_size for file in files) else "is empty"
    return TaskError(
        f"{', '.join(map(str, files))} {found}; it needs at least one example (the first line of a "
        "tsv or csv file is its header)"
    )


def files_digest(files: Iterable[Path]) -> str:
    """Return a digest of the content of files."""
    digest = hashlib.sha256()
    for file in files:
        with reading(file):
            digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()
