"""Run folders: where a command keeps its configuration, its progress and its result.

A run's folder is named by the hash of its configuration. ``result.json`` is written last, so its
presence is what makes a run finished.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tamtctl.errors import TamtctlError, UsageError

RUNS = Path("runs")
CONFIG, RESULT, METRICS, TICKET = "config.json", "result.json", "metrics.jsonl", "ticket"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: Where it is; it need not exist before `start`.
        config: The run's configuration, as plain JSON values.
    """

    path: Path
    config: dict[str, Any]

    @property
    def ticket(self) -> Path:
        """Where the run's ticket goes."""
        return self.path / TICKET

    def finished(self, *, force: bool = False) -> dict[str, Any] | None:
        """Return the result of a finished run of this very configuration, or None to go ahead.

        Nothing is written, so that a command can ask before it does any work.

        Args:
            force: Redo a finished run.

        Raises:
            UsageError: The folder holds something else, or cannot be written.
        """
        if not self.path.exists():
            self._check_writable()
            return None
        if not self.path.is_dir():
            raise UsageError(f"output folder {str(self.path)!r} is a file; choose another")
        if not any(self.path.iterdir()):
            self._check_writable()
            return None
        if _read(self.path / CONFIG) != self.config:
            raise UsageError(
                f"output folder {str(self.path)!r} is not empty and holds no run of this "
                "configuration; choose another --output-dir"
            )
        self._check_writable()
        return None if force else _read(self.path / RESULT)

    def start(self) -> None:
        """Create the folder, or empty it of an earlier attempt, and write the configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / RESULT).unlink(missing_ok=True)
        write_json(self.path / CONFIG, self.config)
        (self.path / METRICS).unlink(missing_ok=True)
        if self.ticket.exists():
            shutil.rmtree(self.ticket)

    def open_metrics(self) -> TextIO:
        """Open ``metrics.jsonl`` for appending, line-buffered."""
        return (self.path / METRICS).open("a", encoding="utf-8", buffering=1)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result: from now on the run is finished."""
        write_json(self.path / RESULT, result)

    def _check_writable(self) -> None:
        existing = next(p for p in [self.path, *self.path.absolute().parents] if p.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
            raise TamtctlError(
                f"output folder {str(self.path)!r} cannot be written: no permission in "
                f"{str(existing)!r}; choose another --output-dir"
            )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file so that a crash leaves the old one or the new one."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            json.dump(value, file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
