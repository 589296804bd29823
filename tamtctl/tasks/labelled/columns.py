"""The columns that a user names of labelled files; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from tamtctl.foundations.errors import UsageError


def check_columns(texts: Sequence[str], label: str | None) -> None:
    """Raise UsageError unless every column is another one."""
    for number, column in enumerate(texts):
        if column in texts[:number]:
            raise UsageError(f"--text-column {column} is given twice; give each column once")
        if column == label:
            raise UsageError(f"column {column!r} cannot be both the text and the label")
