"""Weights & Biases: a run of the project ``tamtctl``, or of the one named by ``WANDB_PROJECT``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import wandb

from tamtctl.training.loggers.logged import PROJECT, LoggedRun

# Settings that keep the machine, the code and the printed output from being sent.
_NOTHING_ELSE: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "",
    "program": "",
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


class _Run:
    def __init__(self, run: Any) -> None:
        self.id: str = run.id
        self._run = run

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def open_log(run: LoggedRun) -> _Run:
    """Begin a run, or go on with it."""
    opened = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        dir=run.folder,
        name=run.name,
        id=run.id,
        resume="allow" if run.id else None,
        config=dict(run.configuration),
        settings=wandb.Settings(**_NOTHING_ELSE),
    )
    return _Run(opened)
