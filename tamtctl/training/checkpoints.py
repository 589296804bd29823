"""Checkpoints: files with everything that a training needs to go on; damaged ones are never used.

A checkpoint is one safetensors file, ``step-<step>-<checksum>.safetensors``; its header has the
values that are not tensors. It gets its name only once it is on the disk, and the name contains the
checksum of its content, so that only whole checkpoints are loaded.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tamtctl.foundations.errors import ChangedInputsError, TamtctlError, explain
from tamtctl.foundations.files import give_usual_rights, put_in_place, unfinished
from tamtctl.foundations.inputs import changed_inputs

FORMAT_VERSION = 1
_SECONDS = 300.0  # between two checkpoints, by default
KEPT = 2  # the last checkpoint, and the one before it in case the last is damaged

# Part of the state → name → tensor; an empty part may be missing after loading.
State = Mapping[str, Mapping[str, Tensor]]

_UNFINISHED = ".step-"  # prefix of a checkpoint's temporary name
_NAME = re.compile(r"step-\d{8,}-(?P<checksum>[0-9a-f]{16})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was loaded.

    Attributes:
        path: Its file.
        state: The tensors, on the CPU.
        facts: The other values, as plain JSON.
    """

    path: Path
    state: State
    facts: dict[str, Any]


class Checkpoints:
    """The last checkpoints of one run.

    Attributes:
        folder: The folder of the checkpoints; it need not exist.
    """

    def __init__(
        self, folder: Path, inputs: Mapping[str, str], circumstances: Mapping[str, str | int]
    ) -> None:
        """Manage the checkpoints in a folder; nothing is read or written yet.

        Args:
            folder: The folder of the checkpoints.
            inputs: The run's identity; checkpoints with another identity are refused.
            circumstances: Device, threads and the like, on which the last bits of the result
                depend; if they have changed when a run goes on, the user gets a note.
        """
        self.folder = folder
        self._inputs = dict(inputs)
        self._circumstances = {
            "tamtctl": importlib.metadata.version("tamtctl"),
            "torch": str(torch.__version__),
            **circumstances,
        }

    def paths(self) -> list[Path]:
        """Return the files of the checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def save(self, step: int, state: State, facts: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove all but the last two.

        Raises:
            TamtctlError: The checkpoint cannot be written; earlier ones are intact.
        """
        header = {
            "format_version": FORMAT_VERSION,
            "inputs": self._inputs,
            "circumstances": self._circumstances,
            "facts": dict(facts),
        }
        tensors = {
            f"{part}/{name}": tensor.detach().contiguous()
            for part, named in state.items()
            for name, tensor in named.items()
        }
        try:
            self.folder.mkdir(exist_ok=True)
            with unfinished(self.folder, _UNFINISHED, is_folder=False) as new:
                save_file(tensors, new, metadata={"checkpoint": json.dumps(header)})
                give_usual_rights(new)
                path = self.folder / f"step-{step:08d}-{_checksum(new)}.safetensors"
                put_in_place(new, path)
        except (OSError, SafetensorError) as error:
            raise self._not_written(step, error) from error
        for old in self.paths()[:-KEPT]:
            old.unlink()
        return path

    def newest(self, note: Callable[[str], None]) -> Checkpoint | None:
        """Return the last intact checkpoint, or None; damaged ones are removed, with a note.

        Half-written files of a killed process are removed, too.

        Args:
            note: Is given lines for people, such as those about removed checkpoints.

        Raises:
            TamtctlError: The checkpoint has another format; or other inputs (ChangedInputsError).
        """
        for leftover in self.folder.glob(f"{_UNFINISHED}*"):
            leftover.unlink()
        for path in reversed(self.paths()):
            try:
                header, state = _read(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                path.unlink()
                instead = "the one before is used" if self.paths() else "there is none before"
                note(f"checkpoint {path} is damaged ({error}) and was removed; {instead}")
                continue
            self._check(path, header, note)
            return Checkpoint(path, state, header["facts"])
        return None

    def remove(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self, path: Path, header: Mapping[str, Any], note: Callable[[str], None]) -> None:
        if header["format_version"] != FORMAT_VERSION:
            raise TamtctlError(
                f"checkpoint {str(path)!r} is of another version of tamtctl; go on with that one, "
                "or start anew with --force"
            )
        if changed := changed_inputs(header["inputs"], self._inputs):
            raise ChangedInputsError(
                f"the {' and the '.join(changed)} changed since {str(path)!r} was saved",
                "bring back what it was, or start anew with --force",
            )
        before = header["circumstances"]
        now = self._circumstances
        if other := [f"{name} was {before[name]}" for name in now if before[name] != now[name]]:
            note(
                f"when {path} was saved, {', '.join(other)}: the last bits of the result may "
                "depend on that"
            )

    def _not_written(self, step: int, error: Exception) -> TamtctlError:
        earlier = self.paths()
        left = (
            f"{earlier[-1]} is intact, and the same command goes on from there"
            if earlier
            else "there is none before, and the same command begins anew"
        )
        return TamtctlError(
            f"the checkpoint of step {step} was not written: {explain(error) or error}; {left}"
        )


class Timetable:
    """When to save a checkpoint: after a number of steps, or every five minutes."""

    def __init__(self, every: int | None) -> None:
        self._every = every
        self.saved()

    def is_due(self, step: int) -> bool:
        """Return whether to save after a step (from 1)."""
        if self._every is not None:
            return step % self._every == 0
        return time.monotonic() - self._saved_at >= _SECONDS

    def saved(self) -> None:
        """Note that a checkpoint was saved: the minutes are counted from now."""
        self._saved_at = time.monotonic()


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def _read(path: Path) -> tuple[dict[str, Any], State]:
    """Return header and state of a checkpoint, after verifying the checksum in its name."""
    found = _NAME.fullmatch(path.name)
    if not found or found["checksum"] != _checksum(path):
        raise ValueError("its content does not match its checksum")
    with safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()["checkpoint"])
        state: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for key in opened.keys():  # noqa: SIM118, it is no mapping
            part, _, name = key.partition("/")
            # A copy, since the file is removed once there are newer ones.
            state[part][name] = opened.get_tensor(key).clone()
    return header, state
