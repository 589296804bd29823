"""The setting ``--log-to``, which several commands have."""

from __future__ import annotations

from typing import Any

from tamtctl.foundations.config import OUTPUT, setting
from tamtctl.training.loggers.table import LOGGERS


def log_to() -> Any:
    """Return the setting; it does not change a run's name."""
    return setting(
        default=None,
        help="Where to log besides metrics.jsonl: {choices}.",
        more="Through the library of that name, by its own settings and environment variables: "
        "metrics and the configuration, with names instead of paths, and nothing else.",
        panel=OUTPUT,
        choices=LOGGERS,
        names_run=False,
    )
