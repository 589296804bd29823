"""The class `Task`: its columns, labels, metrics and hyperparameters.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tamtctl.foundations.errors import UsageError

FEW_SHOTS, FEW_SHOT_EPOCHS = 1000, 8  # TAMT, §4.4
LONGEST_NAME = 256  # characters of a class, a column or a task


@dataclass(frozen=True, kw_only=True)
class Task:
    """One supervised task; hyperparameters are the paper's (TAMT, appendix A).

    Attributes:
        name: Its name on the command line.
        summary: A line for the help.
        kind: The name of a row in `tamtctl.tasks.kinds.table.KINDS`.
        columns: The text columns, one or two, with the names of the Hub's data set.
        label_column: The column of the label, likewise.
        labels: Names of the classes, in the order of their ids; empty where there are none.
        metrics: Names of the official metrics, the primary one first; the kind describes them.
        dev_splits: Suffix of a metric's name → the split, with its name on the Hub.
        hub: Data set and configuration on the Hub; None if there is none.
        folder: Name of the folder with its files, as in GLUE's download; None if there is none.
        other_names: Column in GLUE's files → its name here, where the two differ.
        unnamed_columns: The columns of published files without header line.
        has_broken_rows: Whether published files have rows that lack columns; these are left out.
        learning_rate: Peak rate.
        batch_size: Examples per optimiser step.
        epochs: Passes over the training set.
        max_length: Tokens per example, special tokens included; longer ones are cut.
        label_range: Smallest and largest label of a task of numbers; None: any number.
        stride: Tokens from the start of one window of a long context to the next.
    """

    name: str
    summary: str
    kind: str = "classification"
    columns: tuple[str, ...] = ("sentence1", "sentence2")
    label_column: str = "label"
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    dev_splits: Mapping[str, str] = field(default_factory=lambda: {"": "validation"})
    hub: tuple[str, str | None] | None = None
    folder: str | None = None
    other_names: Mapping[str, str] = field(default_factory=dict)
    unnamed_columns: tuple[str, ...] = ()
    has_broken_rows: bool = False
    learning_rate: float = 2e-5
    batch_size: int = 32
    epochs: int = 3
    max_length: int = 128
    label_range: tuple[float, float] | None = None
    stride: int = 0

    def epochs_for(self, limit: int | None) -> int:
        """Return the paper's epochs for a training set cut to ``limit``: more for few shots."""
        return max(self.epochs, FEW_SHOT_EPOCHS) if limit and limit <= FEW_SHOTS else self.epochs

    @property
    def primary_metric(self) -> str:
        """The name of the primary metric, with the suffix of the first dev split."""
        return self.metrics[0] + next(iter(self.dev_splits))

    @property
    def is_public(self) -> bool:
        """Whether its files are public, so that their labels are fixed."""
        return self.hub is not None or self.folder is not None


def check_columns(texts: Sequence[str], label: str | None) -> None:
    """Check that all columns differ.

    Raises:
        UsageError: A column is given twice.
    """
    for number, column in enumerate(texts):
        if column in texts[:number]:
            raise UsageError(f"--text-column {column} is given twice; give each column once")
        if column == label:
            raise UsageError(f"column {column!r} cannot be both the text and the label")
