"""What a logger gets of a run, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tamtctl.foundations.public_names import public

PROJECT = "tamtctl"  # where runs are together, unless the logger's own settings say otherwise


@dataclass(frozen=True)
class LoggedRun:
    """A run that is logged.

    Attributes:
        folder: Its folder, for what a logger keeps on this machine.
        name: What everybody may call it.
        configuration: What it was told, with names instead of paths.
        after_step: The step that it goes on after; 0 at its start.
        id: What the logger called the run when it began; None at its start.
    """

    folder: Path
    name: str
    configuration: Mapping[str, Any]
    after_step: int
    id: str | None


class Log(Protocol):
    """The log of a run, while it is open.

    Attributes:
        id: What the logger calls the run, so that it is found again.
    """

    id: str

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step, name → value."""

    def close(self) -> None:
        """Send what is left, and end."""


def public_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which every path is its last part; see `public`."""
    return {name: _public(value) for name, value in configuration.items()}


def _public(value: Any) -> Any:
    if isinstance(value, str):
        return public(value)
    if isinstance(value, list | tuple):
        return [_public(one) for one in value]
    return value
