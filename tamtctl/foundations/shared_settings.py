"""Settings that several configurations have, such as where to compute and in which format."""

from __future__ import annotations

from typing import Any

from tamtctl.foundations.checks import Check, at_least, positive
from tamtctl.foundations.config import DATA, RUN, TRAINING, Typed, setting

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")


def precision(**facts: Any) -> Any:
    """Return the setting of the number format; ``facts`` differ between commands."""
    told = {"default": "auto", "by_default": "auto takes bf16 where it is fast"} | facts
    return setting(
        help=f"Format of the numbers, one of {{choices}}; {told.pop('by_default')}.",
        panel=RUN,
        choices=PRECISIONS,
        **told,
    )


def device(**facts: Any) -> Any:
    """Return the setting of the device; ``facts`` differ between commands."""
    told = {"default": "auto", "by_default": "auto takes cuda, then cpu"} | facts
    return setting(
        help=f"Where to compute, one of {{choices}}; {told.pop('by_default')}.",
        panel=RUN,
        is_common=True,
        choices=DEVICES,
        **told,
    )


def threads(check: Check = positive, by_default: str = "torch's choice") -> Any:
    """Return the setting of the CPU threads."""
    return setting(
        default=None,
        help=f"CPU threads of each process; by default {by_default}.",
        panel=RUN,
        check=check,
        typed=Typed(least=1),
    )


def batch_size(default: int) -> Any:
    """Return the setting of the number of sequences per step."""
    return setting(
        default=default,
        help="Sequences per optimiser step.",
        panel=TRAINING,
        is_common=True,
        check=at_least(1),
    )


def micro_batch_size() -> Any:
    """Return the setting of the number of sequences per forward pass."""
    return setting(
        default=None,
        help="Sequences per forward pass (gradient accumulation); by default the whole batch.",
        panel=TRAINING,
        check=positive,
    )


def max_grad_norm() -> Any:
    """Return the setting of the norm that gradients are clipped to."""
    return setting(default=1.0, help="Norm to clip to.", panel=TRAINING, check=positive, typed=None)


def dropout(*, default: bool) -> Any:
    """Return the setting of the student's dropout."""
    return setting(
        default=default, help="Leave the student's dropout on.", panel=TRAINING, typed=None
    )


def checkpoint_every(check: Check) -> Any:
    """Return the setting of how often a training is saved."""
    return setting(
        default=None,
        help="Steps between checkpoints; by default, every 5 minutes.",
        panel=RUN,
        check=check,
        names_run=False,
    )


def text_column() -> Any:
    """Return the setting of the column that holds a corpus's text."""
    return setting(
        default=None, help="Column of the text in jsonl, csv, parquet and datasets.", panel=DATA
    )


def data_dir(check: Check | None = None) -> Any:
    """Return the setting of the folder that holds a task's files."""
    return setting(
        default=None,
        help="Folder of the task's files, or GLUE's of all tasks: tsv, jsonl, csv, parquet, or "
        "SQuAD's json; by default they come from the Hub.",
        panel=DATA,
        check=check,
    )
