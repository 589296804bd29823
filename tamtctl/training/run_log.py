"""What is written of a run step by step: ``metrics.jsonl`` always, elsewhere what is asked for."""

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

_LOGGED = "logged.json"  # which run of a logger it is, and how far that has got


def check_log_to(log_to: str | None) -> None:
    """Raise UsageError if what a run shall log to is not installed."""
    if log_to and importlib.util.find_spec(package := LOGGERS.find(log_to).package) is None:
        raise UsageError(f"--log-to {log_to} needs a package: pip install {package}")


@dataclass(frozen=True)
class Logging:
    """Where else a run is logged, and what of it is told there.

    Attributes:
        log_to: A name on the shelf of loggers; None if the run has its own files alone.
        name: What a logger calls the run.
        configuration: What the run was told; of paths in it a logger gets the last part.
    """

    log_to: str | None = None
    name: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)


class RunLog:
    """Writes each report of a run, as soon as it is made."""

    def __init__(
        self,
        folder: Path,
        after_step: int,
        logging: Logging,
        note: Callable[[str], None],
    ) -> None:
        """Open the files of a run that is about to take the step after ``after_step``.

        Args:
            folder: The run's.
            after_step: The last step that was done before.
            logging: Where else it is logged.
            note: Is told if a logger cannot be reached any more.

        Raises:
            UsageError: The logger cannot be reached.
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
            log: Log = self._row.function("open_log")(run)
        except UsageError:
            raise
        except Exception as error:  # of a library that is not ours
            raise UsageError(f"--log-to {self._row.name}: {reason(error)}") from error
        return log

    def _tell(self, what: Callable[[Log], None]) -> None:
        """Tell the logger; where that fails, the run goes on without it."""
        if self._log is None:
            return
        try:
            what(self._log)
        except Exception as error:  # of a library that is not ours
            self._log = None
            self._note(
                f"{self._row.name} gets no more of this run ({reason(error)}); {METRICS} in its "
                "folder has all of it"
            )

    def _keep(self, step: int) -> None:
        """Keep which run the logger has, and up to which step."""
        if self._log is not None and not self._row.forgets:
            value = {"logger": self._row.name, "id": self._log.id, "step": step}
            write_json(self._folder / _LOGGED, value)


def _known(folder: Path, logger: str) -> dict[str, Any]:
    """Return what `RunLog` kept of this run, if it was logged to the same logger before."""
    try:
        known = json.loads((folder / _LOGGED).read_text(encoding="utf-8"))
        is_same = known["logger"] == logger and isinstance(known["id"], str)
        return dict(known) if is_same and isinstance(known["step"], int) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
