"""The log of a run, step by step: always ``metrics.jsonl``, and a logger if one is asked for."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.untrusted import reason
from tamtctl.foundations.watching import StepReport
from tamtctl.training.loggers import LOGGERS
from tamtctl.training.loggers.logged import Log, LoggedRun, public_configuration
from tamtctl.training.run_folder import METRICS, write_json

_LOGGED = "logged.json"  # the logger's id of the run, and the last step that it has


def check_log_to(log_to: str | None) -> None:
    """Raise UsageError if the logger of a run is not installed."""
    if log_to and importlib.util.find_spec(package := LOGGERS.find(log_to).package) is None:
        raise UsageError(f"--log-to {log_to} needs a package: pip install {package}")


@dataclass(frozen=True)
class Logging:
    """The logger of a run, and what it is told about the run.

    Attributes:
        log_to: A name on the shelf of loggers; None for the run's own files alone.
        name: The run's name for the logger.
        configuration: The run's configuration; the logger gets only the last part of paths.
    """

    log_to: str | None = None
    name: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)


class RunLog:
    """Writes each report of a run at once."""

    def __init__(
        self,
        folder: Path,
        after_step: int,
        logging: Logging,
        note: Callable[[str], None],
    ) -> None:
        """Open the files of a run that is about to take the step after ``after_step``.

        Args:
            folder: The run's folder.
            after_step: The last step of the checkpoint that the run goes on from; 0 for a new run.
            logging: The logger, if any.
            note: Is given a line if the logger fails during the run.

        Raises:
            UsageError: The logger cannot be opened.
        """
        self._folder, self._note = folder, note
        self._log: Log | None = None
        self._sent = 0  # the last step that the logger has
        if logging.log_to is not None:
            self._row = LOGGERS.find(logging.log_to)
            self._log = self._opened(logging, after_step)
            self._keep(self._sent)
        self._metrics = (folder / METRICS).open("a", encoding="utf-8", buffering=1)

    def __enter__(self) -> Self:
        """Write until the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self._metrics.close()
        self._tell(lambda log: log.close())

    def write(self, report: StepReport) -> None:
        """Write a report."""
        values: dict[str, Any] = asdict(report) | {"loss": report.loss}
        self._metrics.write(json.dumps(values) + "\n")
        if self._log is None or report.step <= self._sent:
            return
        numbers = {n: values[n] for n in ("loss", "learning_rate", "flips", "tokens_per_second")}
        for group in ("terms", "eval_losses"):
            numbers |= {f"{group}/{term}": loss for term, loss in values[group].items()}
        self._tell(lambda log: log.write(report.step, numbers))
        self._keep(report.step)

    def _opened(self, logging: Logging, after_step: int) -> Log:
        known = _known(self._folder, self._row.name) if after_step else {}
        self._sent = 0 if self._row.forgets else known.get("step", 0)
        run = LoggedRun(
            self._folder,
            logging.name,
            public_configuration(logging.configuration),
            after_step,
            known.get("id"),
        )
        try:
            log: Log = self._row.function("open_log", passes=(Exception,))(run)
        except UsageError:
            raise
        except Exception as error:  # a library that is not ours may raise any
            raise UsageError(f"--log-to {self._row.name}: {reason(error)}") from error
        return log

    def _tell(self, what: Callable[[Log], None]) -> None:
        """Call the logger; if it fails, the run goes on without it."""
        if self._log is None:
            return
        try:
            what(self._log)
        except Exception as error:  # a library that is not ours may raise any
            self._log = None
            self._note(
                f"{self._row.name} gets no more of this run ({reason(error)}); {METRICS} in its "
                "folder has all of it"
            )

    def _keep(self, step: int) -> None:
        """Write down the logger's id of the run, and the last step that it has."""
        if self._log is not None and not self._row.forgets:
            value = {"logger": self._row.name, "id": self._log.id, "step": step}
            write_json(self._folder / _LOGGED, value)


def _known(folder: Path, logger: str) -> dict[str, Any]:
    """Return what `RunLog` wrote down for the same logger; empty if there is nothing."""
    try:
        known = json.loads((folder / _LOGGED).read_text(encoding="utf-8"))
        is_same = known["logger"] == logger and isinstance(known["id"], str)
        return dict(known) if is_same and isinstance(known["step"], int) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
