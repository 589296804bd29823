"""Labelled data sets on the Hub: the commit that is read, and its records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tamtctl.foundations.errors import TaskError
from tamtctl.foundations.hub_commits import dataset_commit
from tamtctl.foundations.untrusted import reason
from tamtctl.tasks.benchmarks.table import BENCHMARKS
from tamtctl.tasks.kinds.base import Record
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.task import Task


def open_dataset(task: Task) -> TaskData:
    """Find the dataset of a task on the Hub.

    Raises:
        TaskError: The task has none, or the Hub cannot be reached.
    """
    if task.hub is None:
        raise TaskError(f"{task.name} is not on the Hub; give its files with --data-dir")
    dataset, config = task.hub
    name = dataset + (f":{config}" if config else "")
    commit = _hub_commit(dataset, config)
    return TaskData(task, name, name, partial(_hub_records, dataset, config, commit), commit)


def _hub_commit(dataset: str, config: str | None) -> str:
    """Return the newest commit of a data set; `datasets` itself would retry for long.

    If the Hub does not answer, it is the newest commit in the cache of `datasets`.
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
    made = ", ".join(row.name for row in BENCHMARKS.values() if row.code)
    instead = f"give its files with --data-dir, or use the task {made}, which needs none"
    try:
        yield
    except Exception as error:  # the errors depend on the format of the data set
        hub_error = HubRequests(dataset, kind="dataset").explained(error)
        if isinstance(hub_error, UnreachableError):
            line = f"no network to the Hub to fetch {name}; {instead} ({hub_error})"
        else:
            line = f"cannot read the dataset {name}: {hub_error or reason(error)}; {instead}"
        raise TaskError(line) from error
