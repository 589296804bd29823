"""Reading what a fine-tuned checkpoint records of itself in ``metrics.json``.

Every value is checked, as the checkpoint may be from a stranger; and a run may have been copied or
moved since it was made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.untrusted import Defect, parse_json_object
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.table import KINDS
from tamtctl.tasks.task import LONGEST_NAME, Task

SEED_METRICS = "metrics.json"
MAX_FACTS_BYTES = 2**24

_SPLIT = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class RunFacts:
    """How a checkpoint was made.

    Attributes:
        task: The task that it was fine-tuned on, with its classes.
        model: Name or folder of the model that it was made of, to load it by here; None if it is
            not recorded.
        data_dir: The present folder of the task's files; None if there was none.
        dev: The present file of the dev examples; None if there was none.
        sparsity: Share of zeros in the masked matrices; None if it is not recorded.
        dev_selected: Whether it was chosen by its metric on the dev set.
        sha256: Split → SHA-256 of its examples.
        constant: The most frequent class or answer of its training set, or the mean label; None if
            it is not recorded.
    """

    task: Task
    model: str | None
    data_dir: str | None
    dev: str | None
    sparsity: float | None
    dev_selected: bool
    sha256: Mapping[str, str]
    constant: str | float | None = None

    @classmethod
    def read(cls, folder: Path) -> RunFacts | None:
        """Read the facts of the checkpoint in a folder; None if it has none.

        Other programs write a ``metrics.json``, too; an object without a task is none of ours.

        Raises:
            ModelError: The file is damaged, or its kind of task is on no shelf here.
        """
        file = folder / SEED_METRICS
        try:
            content = read_regular(file, MAX_FACTS_BYTES)
        except PermissionError:
            raise
        except OSError:
            return None
        try:
            values = parse_json_object(content, SEED_METRICS)
            if "task" not in values:
                return None
            _check_kind(_object(values, "task").get("kind"), file)
            files, model = _object(values, "files"), _object(values, "model")
            data, sparsity = _object(values, "data"), values.get("sparsity")
            splits = {n: v.get("sha256") for n, v in data.items() if isinstance(v, dict)}
            task = _task(_object(values, "task"))
            return cls(
                task=task,
                model=_place(files, "model", folder) or _text(model.get("id")),
                data_dir=_place(files, "data_dir", folder),
                dev=_place(files, "dev", folder),
                sparsity=sparsity if type(sparsity) is float and 0 <= sparsity <= 1 else None,
                dev_selected=values.get("dev_selected") is True,
                sha256={name: v for name, v in splits.items() if isinstance(v, str)},
                constant=kind_of(task).known_constant(_object(values, "constant").get("value")),
            )
        except Defect as error:
            raise ModelError(f"{file} is damaged ({error}); fine-tune again") from error


def places_of(paths: Mapping[str, str | None], folder: Path) -> dict[str, dict[str, str]]:
    """Return the places of files, by which `RunFacts.read` finds them even after a move of all.

    Args:
        paths: Name → path as the user gave it; None if there is none.
        folder: The checkpoint's folder.
    """
    places = {}
    for name, path in paths.items():
        if path is None or not os.path.lexists(file := expanded(path)):
            continue
        there = {"absolute": str(file.absolute())}
        with suppress(ValueError):  # another drive has no relative path
            there["relative"] = os.path.relpath(file.resolve(), folder.resolve())
        places[name] = there
    return places


def _place(files: Mapping[str, Any], name: str, folder: Path) -> str | None:
    """Return the present path of a file: relative to the run if that exists, else as recorded."""
    place = files.get(name)
    if not isinstance(place, dict):
        return None
    relative, absolute = _text(place.get("relative")), _text(place.get("absolute"))
    if relative is not None and (moved := folder.resolve() / relative).exists():
        return os.path.normpath(moved)
    return absolute


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name, {})
    if not isinstance(value, dict):
        raise Defect(f"{name} is no object")
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value and "\0" not in value else None


def _check_kind(kind: object, file: Path) -> None:
    """Raise ModelError if a kind of task may be that of a script, and the script has not run."""
    if isinstance(kind, str) and KINDS.is_name(kind) and kind not in KINDS:
        raise ModelError(
            f"{file}: there is no kind of task {kind!r} here, only {', '.join(KINDS)}; if a script "
            "registers it, run that in place of tamtctl"
        )


def _task(values: Mapping[str, Any]) -> Task:
    """Return the task that `dataclasses.asdict` turned into ``values``.

    Raises:
        Defect: A value is missing, of another type, or does not fit the others.
    """
    own = asdict(Task(name="", summary=""))
    known = {field.name for field in fields(Task)}
    if not {"name", "kind", "labels"} <= values.keys() <= known:
        raise Defect("it does not say what the task is")
    for name, value in values.items():
        if not _is_like(name, value, own[name]):
            raise Defect(f"the {name} of the task is {str(value)[:40]!r}")
    typed: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    task = Task(**typed)
    kind = KINDS.get(task.kind)
    names = {metric.name for metric in kind.metrics} if kind else set[str]()
    if not set(task.metrics) <= names:
        raise Defect(f"there is no task of the kind {task.kind!r} with {', '.join(task.metrics)}")
    if not (task.columns and task.metrics and task.dev_splits):
        raise Defect("the task has no columns, no metrics or no dev split")
    if any(not _SPLIT.fullmatch(split) for split in task.dev_splits.values()):
        raise Defect("a dev split has no name")
    return task


def _is_like(name: str, value: Any, default: Any) -> bool:
    """Return whether a value of the JSON has the type of a task's field."""
    if name == "hub":
        return value is None or (isinstance(value, list) and len(value) == 2)
    if name == "label_range":
        return value is None or (
            isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
        )
    if name == "folder":
        return value is None or _is_name(value)
    if isinstance(default, tuple):
        return isinstance(value, list) and all(map(_is_name, value))
    if isinstance(default, dict):
        return isinstance(value, dict) and all(_is_name(v) for v in (*value, *value.values()))
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return _is_number(value) and value >= 0 and isinstance(value, int | type(default))
    return _is_name(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
