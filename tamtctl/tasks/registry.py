"""Finding a task by its name, and making one for a user's own labelled files.

Imports nothing heavy, so that the command line can list and check tasks before it loads torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tamtctl.foundations.checks import nearest
from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.benchmarks.table import BENCHMARKS
from tamtctl.tasks.kinds.table import KINDS
from tamtctl.tasks.task import Task


class _Tasks(Mapping[str, Task]):
    """The tasks of all benchmarks, registered ones included."""

    def __getitem__(self, name: str) -> Task:
        return BENCHMARKS[name].task

    def __iter__(self) -> Iterator[str]:
        return iter(BENCHMARKS)

    def __len__(self) -> int:
        return len(BENCHMARKS)


TASKS: Mapping[str, Task] = _Tasks()


def find_task(name: str, *others: str) -> Task:
    """Return the task of a name.

    Args:
        name: A name in `TASKS`.
        *others: Further names that the error may suggest.

    Raises:
        UsageError: There is no such task; the message suggests the nearest.
    """
    if name in TASKS:
        return TASKS[name]
    if Path(name).suffix:
        raise UsageError(
            f"no task {name!r}; a labelled file of your own is given as --train {name}"
        )
    known = [*TASKS, *others]
    near = nearest(name.lower().replace("-", ""), known, least=0.5)
    hint = f"did you mean {near}? " if near else ""
    raise UsageError(f"no task {name!r}; {hint}known are {', '.join(known)}")


def own_task(name: str, columns: tuple[str, ...], label_column: str, kind: str) -> Task:
    """Return the task of a user's own labelled files; its labels are not known yet."""
    return Task(
        name=name,
        summary="a task of your own",
        kind=kind,
        columns=columns,
        label_column=label_column,
        metrics=KINDS[kind].own_metrics,
        other_names=KINDS[kind].other_names,
    )
