"""Trackio: a run of the project ``tamtctl``, here or in the Space ``TRACKIO_SPACE_ID``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import trackio

from tamtctl.training.loggers.logged import PROJECT, LoggedRun

_USER = "_Username"  # the user's name on the Hub, which trackio adds to a configuration


class _Run:
    def __init__(self, run: Any) -> None:
        self.id: str = run.name
        self._run = run

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with redirect_stdout(sys.stderr):  # stdout is for results
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            trackio.finish()  # run.finish() alone is repeated, aloud, when Python ends


def open_log(run: LoggedRun) -> _Run:
    """Begin a run, or go on with it."""
    with redirect_stdout(sys.stderr):
        opened = trackio.init(
            project=PROJECT,
            name=run.id or run.name,
            config=dict(run.configuration),
            resume="allow" if run.id else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
    opened.config[_USER] = None
    return _Run(opened)
