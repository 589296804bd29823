"""The shelf of loggers: programs in which people look at their runs.

Each is asked through its own library, which finds its account and its place as it always does: by
its own environment variables and settings. It gets a run's name, configuration and metrics, with
names instead of paths; nothing of the machine, of the code or of git leaves with them.

Imports nothing heavy. To add one: a file beside this one, and a row in `LOGGERS`; from another
package or a script the same by `register`. The file defines

    open_log(run) -> Log        starts the log of a `tamtctl.training.loggers.logged.LoggedRun`
"""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.foundations.shelves import Row, Shelf


@dataclass(frozen=True, kw_only=True)
class Logger(Row):
    """A program that shows runs.

    Attributes:
        package: What has to be installed; the module and the package index call it alike.
        forgets: Whether it can drop the steps after the one that a run goes on from. To others, a
            step that was sent is not sent again.
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
