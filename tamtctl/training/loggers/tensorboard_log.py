"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from tamtctl.training.loggers.logged import LoggedRun
from tamtctl.training.run_folder import TENSORBOARD


class _Events:
    def __init__(self, run: LoggedRun) -> None:
        purge = run.after_step + 1 if run.after_step else None
        self.id = TENSORBOARD
        self._writer = SummaryWriter(run.folder / TENSORBOARD, purge_step=purge)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def open_log(run: LoggedRun) -> _Events:
    """Open the event files; steps after the one that the run goes on from are dropped."""
    return _Events(run)
