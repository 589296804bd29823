"""The objects of a JSON lines file whose texts are labelled, for output with the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import TaskError
from tamtctl.tasks.labelled.files import records_of, suffix_of
from tamtctl.tasks.task import Task

JSON_LINES = ".jsonl"


def json_records(task: Task, file: Path, texts: int) -> list[dict[str, Any]] | None:
    """Return the object of every line, empty for a blank line; None for other formats.

    Args:
        task: The task that the texts are labelled for.
        file: The file, plain or compressed.
        texts: How many texts were read from it.

    Raises:
        TaskError: The file has another number of lines now.
    """
    if suffix_of(file) != JSON_LINES:
        return None
    records = [dict(record) for _, record in records_of(task, file, with_blank=True)]
    if len(records) != texts:
        raise TaskError(f"{file} changed while it was read; label it again")
    return records
