"""The weights of a ticket's base model, read from safetensors without torch.

Only the matrices that the ticket names are read, one at a time. Each is compared with the checksum
in the ticket, so that a checkpoint may have them under other names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.plain_files import is_special
from tamtctl.foundations.untrusted import reason
from tamtctl.models.files import CONFIG_FILE, folder_here
from tamtctl.models.fingerprints import sha256_of_array
from tamtctl.ticket.format.metadata import ParameterEntry
from tamtctl.ticket.stored import StoredTicket

_WEIGHTS, _SHARDS = "model.safetensors", "model-*-of-*.safetensors"
_FLOATS = ("F64", "F32", "F16")  # numpy has no bfloat16


class UnknownWeightsError(ModelError):
    """The weights of a ticket cannot be read here without torch; the message says why."""


class BaseWeights:
    """The matrices of a ticket's base model, each read and verified on request.

    Args:
        ticket: Names the model.

    Raises:
        UnknownWeightsError: The model is not on this machine, or not as safetensors.
    """

    def __init__(self, ticket: StoredTicket) -> None:
        self.model = ticket.base_model.id
        files = _files_of(ticket)
        self._file_of: dict[str, tuple[str, Path]] = {}  # end of a name → whole name, file
        for file in files:
            with _opened(self.model, file) as content:
                for name in sorted(content.keys(), key=len):
                    self._add(name, file)

    def _add(self, name: str, file: Path) -> None:
        """Register a tensor under its name, and under the name without any prefix of it."""
        parts = name.split(".")
        for start in range(max(1, len(parts) - 1)):
            self._file_of.setdefault(".".join(parts[start:]), (name, file))

    def read(self, name: str, entry: ParameterEntry) -> NDArray[np.float32]:
        """Return one matrix in float32.

        Args:
            name: Its name in the ticket.
            entry: Its shape and checksum in the ticket.

        Raises:
            UnknownWeightsError: The matrix is missing, or has another shape or checksum.
        """
        if name not in self._file_of:
            raise UnknownWeightsError(f"the copy of {self.model} here has no {name}")
        stored, file = self._file_of[name]
        with _opened(self.model, file) as content:
            part = content.get_slice(stored)
            if tuple(part.get_shape()) != entry.shape or part.get_dtype() not in _FLOATS:
                raise UnknownWeightsError(f"the copy of {self.model} here has another {name}")
            weight = np.asarray(content.get_tensor(stored), np.float32)
        if sha256_of_array(weight) != entry.sha256:
            raise UnknownWeightsError(f"the copy of {self.model} here has other weights")
        return weight


@contextmanager
def _opened(model: str, file: Path) -> Iterator[Any]:
    try:
        with cast(Any, safe_open(file, framework="numpy")) as content:
            yield content
    except (SafetensorError, OSError) as error:
        why = f"the copy of {model} here cannot be read ({reason(error)})"
        raise UnknownWeightsError(why) from error


def _files_of(ticket: StoredTicket) -> list[Path]:
    """Return the safetensors files of a ticket's base model."""
    absent = f"it takes the weights of {ticket.base_model.id}, which are not on this machine"
    try:
        name, revision = ticket.find_base()
    except ModelError as error:
        raise UnknownWeightsError(absent) from error
    folder = folder_here(name, revision, CONFIG_FILE)
    if folder is None:
        raise UnknownWeightsError(absent)
    files = [folder / _WEIGHTS]
    if not files[0].exists():
        files = sorted(folder.glob(_SHARDS))
    if not files or any(is_special(file) or not file.is_file() for file in files):
        raise UnknownWeightsError(f"the copy of {ticket.base_model.id} here is no safetensors")
    return files
