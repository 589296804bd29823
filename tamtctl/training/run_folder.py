"""Run folders: where a command keeps its configuration, its progress and its result.

A run's folder is named by the hash of its configuration. ``identity.json`` has digests of the run's
inputs: the same request finds the run again only as long as they are the same. ``result.json`` is
written last; a run is finished if it exists.
"""

from __future__ import annotations

import fnmatch
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tamtctl.foundations.errors import (
    ChangedInputsError,
    DamagedRunError,
    TamtctlError,
    TicketError,
    UsageError,
)
from tamtctl.foundations.files import check_folder_writable, write_whole
from tamtctl.foundations.folders import nearest_folder
from tamtctl.foundations.inputs import changed_inputs
from tamtctl.foundations.locks import locked
from tamtctl.foundations.paths import exists
from tamtctl.foundations.plain_files import is_special, leads_out, read_regular
from tamtctl.foundations.untrusted import reason

T = TypeVar("T")

RUNS = Path("runs")
CONFIG, RESULT, METRICS, TICKET = "config.json", "result.json", "metrics.jsonl", "ticket"
IDENTITY = "identity.json"
CHECKPOINTS, TENSORBOARD, SCORES = "checkpoints", "tensorboard", "scores.safetensors"
RECOVERED_MODEL = "model"  # the checkpoint's folder inside that of a recovery
_LOCK = ".lock"
_MAX_BYTES = 2**28  # of a run's JSON file
_REMEDY = "make it anew in its place with --force, or keep it and choose another --output-dir"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: The path of the folder; it need not exist before `start`.
        config: The run's configuration, as plain JSON values.
        identity: Name → digest, of every input that the result depends on.
    """

    path: Path
    config: dict[str, Any]
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name, without its path."""
        return self.path.absolute().name

    @property
    def ticket(self) -> Path:
        """The folder of the run's ticket."""
        return self.path / TICKET

    def finished(self, *, force: bool = False) -> dict[str, Any] | None:
        """Return the result of a finished run of this configuration; None if there is work to do.

        Nothing is written, so that a command can call it before any work.

        Args:
            force: Ignore a finished run, and one of other inputs, and return None.

        Raises:
            UsageError: The folder holds something else.
            ChangedInputsError: The run's inputs have changed since.
            TamtctlError: The folder cannot be written.
        """
        if not self.path.exists():
            self._check_writable()
            return None
        if not self.path.is_dir():
            raise UsageError(f"output folder {str(self.path)!r} is a file; choose another")
        self._refuse_odd_entries()
        if all(_may_be_left(entry.name) for entry in self.path.iterdir()):
            self._check_writable()  # empty, except for files that a process killed early may leave
            return None
        if _request(_read(self.path / CONFIG)) != _request(self.config):
            raise UsageError(
                f"output folder {str(self.path)!r} is not empty and holds no run of this "
                "configuration; choose another --output-dir"
            )
        self._check_writable()
        if force:
            return None
        self._check_identity()
        return _read(self.path / RESULT)

    def earlier_result(self, read: Callable[[dict[str, Any]], T], *, force: bool) -> T | None:
        """Return the result of a finished run of this configuration; None if there is work to do.

        Args:
            read: Makes the result of the values of ``result.json``, and looks at what the run made.
            force: As in `finished`.

        Raises:
            DamagedRunError: The values are those of another version, or what the run made is
                missing or damaged.
            TamtctlError: As in `finished`.
        """
        values = self.finished(force=force)
        if values is None:
            return None
        damaged = f"the finished run in {str(self.path)!r} is damaged"
        try:
            return read(values)
        except (TypeError, KeyError, AttributeError) as error:
            why = f"{RESULT} is not one that this version wrote"
            raise DamagedRunError(f"{damaged} ({why}); --force redoes it") from error
        except (TicketError, OSError) as error:
            why = str(error) if isinstance(error, TicketError) else reason(error)
            raise DamagedRunError(f"{damaged} ({why}); --force redoes it") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and lock out other processes within this context.

        Raises:
            TamtctlError: Another process has locked it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / _LOCK))
            except BlockingIOError as error:
                raise TamtctlError(
                    f"another process or thread is at this very run in {str(self.path)!r}; wait "
                    "for it: the same command then finds it done"
                ) from error
            yield

    def start(self, *, after_step: int = 0) -> None:
        """Create the folder, or clean up that of an earlier attempt, and write the configuration.

        Args:
            after_step: The step that the run goes on after; later metrics are removed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / RESULT).unlink(missing_ok=True)
        for name in (CONFIG, IDENTITY, RESULT, METRICS, TICKET, SCORES):
            for leftover in self.path.glob(f".{name}[-.]*"):  # a process was killed while writing
                _remove(leftover)
        write_json(self.path / IDENTITY, dict(self.identity))  # before the configuration
        write_json(self.path / CONFIG, self.config)
        _remove(self.ticket)
        (self.path / SCORES).unlink(missing_ok=True)
        if after_step:
            truncate_metrics(self.path, after_step)
        else:
            (self.path / METRICS).unlink(missing_ok=True)
            _remove(self.path / TENSORBOARD)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which marks the run as finished."""
        write_json(self.path / RESULT, result)

    def _refuse_odd_entries(self) -> None:
        for entry in sorted(self.path.iterdir()):
            if is_special(entry) or leads_out(self.path, entry.name):
                raise UsageError(
                    f"output folder {str(self.path)!r} holds {entry.name}, which is a pipe, a "
                    "device or a link that leads out of it; choose another --output-dir"
                )

    def _check_identity(self) -> None:
        before = _read(self.path / IDENTITY)
        if before is None:
            raise ChangedInputsError(
                f"the run in {str(self.path)!r} has no {IDENTITY}, which says what it was made of",
                _REMEDY,
            )
        names = changed_inputs(before, self.identity)
        if not names:
            return
        raise ChangedInputsError(
            f"the {' and the '.join(names)} changed since the run in {str(self.path)!r} began",
            f"bring back what it was, or {_REMEDY}",
        )

    def _check_writable(self) -> None:
        existing = nearest_folder(self.path.absolute())
        try:
            if not existing.is_dir():
                why = f"there is a file {str(existing)!r}"
            else:
                check_folder_writable(existing)
                return
        except PermissionError:
            why = f"no permission in {str(existing)!r}"
        except OSError as error:
            why = f"{reason(error)} ({str(existing)!r})"
        raise TamtctlError(
            f"output folder {str(self.path)!r} cannot be written: {why}; choose another "
            "--output-dir"
        )


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run."""
    return exists(folder / IDENTITY)


def _request(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a configuration without digests, since changed content is found by the identity."""
    if config is None:
        return None
    return {name: value for name, value in config.items() if not name.endswith("_sha256")}


def _may_be_left(name: str) -> bool:
    """Return whether a process killed before its start may have left a file of this name."""
    return name in (_LOCK, IDENTITY) or any(
        fnmatch.fnmatchcase(name, pattern)
        for pattern in (f".{CONFIG}-*", f".{IDENTITY}-*", ".*.probe")
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file atomically: a crash leaves either the old or the new one."""
    write_whole(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def truncate_metrics(folder: Path, last_step: int) -> None:
    """Remove the lines of steps after ``last_step``, and a line that a crash cut off."""
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if line.endswith("\n") and _step(line) <= last_step]
    write_whole(path, "".join(kept).encode())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _step(line: str) -> float:
    """Return the step of a line of metrics; infinity if the line is damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(read_regular(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
