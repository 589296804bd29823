"""What a logger gets of a run, and the log that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tamtctl.foundations.public_names import public

PROJECT = "tamtctl"  # the project of all runs, unless the logger's own settings name another


@dataclass(frozen=True)
class LoggedRun:
    """A run that is logged.

    Attributes:
        folder: The run's folder, for files that a logger keeps on this machine.
        name: The run's name, without its path.
        configuration: The run's configuration, with names instead of paths.
        after_step: The last step of the checkpoint that the run goes on from; 0 for a new run.
        id: The logger's id of the run when it began; None for a new run.
    """

    folder: Path
    name: str
    configuration: Mapping[str, Any]
    after_step: int
    id: str | None


class Log(Protocol):
    """The log of a run, while it is open.

    Attributes:
        id: The logger's id of the run, by which it is found again.
    """

    id: str

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step, name → value."""

    def close(self) -> None:
        """Send what is left, and close the log."""


def public_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with every path reduced to its last part; see `public`."""
    return {name: _public(value) for name, value in configuration.items()}


def _public(value: Any) -> Any:
    if isinstance(value, str):
        return public(value)
    if isinstance(value, list | tuple):
        return [_public(one) for one in value]
    return value
