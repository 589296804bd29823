"""The shelf of loggers: programs that show the metrics of runs.

Each is used through its own library, which finds account and project by its own environment
variables and settings. It gets a run's name, configuration and metrics, with names instead of
paths, and nothing about the machine, the code or git.

Imports nothing heavy. To add one: a file beside this one, and a row in `LOGGERS`; from another
package or a script the same by `register`. The file defines

    open_log(run) -> Log        starts the log of a `tamtctl.training.loggers.logged.LoggedRun`
"""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.foundations.shelves import Row, Shelf


@dataclass(frozen=True, kw_only=True)
class Logger(Row):
    """A program that shows the metrics of runs.

    Attributes:
        package: The package to install; its module has the same name.
        forgets: Whether it can drop the steps after the one that a run goes on from. Other loggers
            do not get a step twice.
    """

    package: str
    forgets: bool = False


LOGGERS: Shelf[Logger] = Shelf(
    "logger",
    [
        Logger(
            name="tensorboard",
            code="tamtctl.training.loggers.tensorboard_log",
            package="tensorboard",
            forgets=True,
        ),
        Logger(name="wandb", code="tamtctl.training.loggers.wandb_log", package="wandb"),
        Logger(name="trackio", code="tamtctl.training.loggers.trackio_log", package="trackio"),
        Logger(name="mlflow", code="tamtctl.training.loggers.mlflow_log", package="mlflow"),
    ],
)
register = LOGGERS.register
