"""The record of a recovered checkpoint, ``recovery.json``: its ticket, and how it was trained.

The record may be published, so that it has only the last part of local paths.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.public_names import public, public_model, public_search, texts_of
from tamtctl.foundations.untrusted import Defect, Fields, parse_json_object
from tamtctl.pruning.recovery.config import RecoverConfig
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.ticket import Ticket
from tamtctl.ticket.trained_on import Training, digests_in
from tamtctl.training.run_folder import RECOVERED_MODEL, RESULT

RECOVERY_FILE = "recovery.json"
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Recovered:
    """The record of a recovered checkpoint.

    Attributes:
        folder: The checkpoint's folder.
        ticket_name: The name of its ticket.
        ticket_sha256: SHA-256 of that ticket's metadata file.
        settings: The settings of the recovery, without the ticket.
        objective: What its weights were trained for.
        steps: Optimiser steps.
        trained_on: Digests of the texts of the recovery; None in records of an old version.
    """

    folder: Path
    ticket_name: str
    ticket_sha256: str
    settings: Mapping[str, Any]
    objective: str
    steps: int
    trained_on: tuple[str, ...] | None

    @property
    def training(self) -> Training:
        """The training of its weights."""
        corpus = texts_of(self.settings, "corpus")
        has_held_out = bool(texts_of(self.settings, "held_out"))
        return Training("its weights were", self.trained_on, (), corpus, has_held_out)

    @classmethod
    def find(cls, name: str) -> Self | None:
        """Return the record of a checkpoint, or of the run that wrote it; None if there is none.

        Args:
            name: The folder of the checkpoint or of the run.

        Raises:
            ModelError: The record is damaged, or not one that a recovery writes.
        """
        for folder in (expanded(name), expanded(name) / RECOVERED_MODEL):
            try:
                content = read_regular(folder / RECOVERY_FILE, _MOST_BYTES)
            except OSError:
                continue
            try:
                return cls._read(folder, parse_json_object(content, RECOVERY_FILE))
            except Defect as error:
                raise ModelError(f"{name!r} does not say how it was recovered: {error}") from error
        return None

    @classmethod
    def _read(cls, folder: Path, values: Mapping[str, Any]) -> Self:
        told = Fields(values, RECOVERY_FILE)
        ticket, settings = told.section("ticket"), told.plain("recovery")
        return cls(
            folder=folder,
            ticket_name=ticket.text("name"),
            ticket_sha256=ticket.sha256("sha256"),
            settings={name: value for name, value in settings.items() if name != "ticket"},
            objective=told.section("recovery").text("objective"),
            steps=told.section("result").integer("steps"),
            trained_on=digests_in(values.get("trained_on")),
        )


def record_of(
    config: RecoverConfig,
    ticket: Ticket,
    folder: Path,
    texts: Sequence[str],
    measured: dict[str, Any],
) -> dict[str, Any]:
    """Return the record that is written beside a recovered checkpoint.

    Args:
        config: The settings of the recovery.
        ticket: The ticket whose zeros are kept.
        folder: The ticket's folder.
        texts: Digests of the texts that the weights were trained on.
        measured: The result, as plain JSON values.
    """
    base = ticket.base_model
    return {
        "what": "the weights that a ticket keeps, trained against the dense model; no ticket",
        "tamtctl_version": importlib.metadata.version("tamtctl"),
        "ticket": {
            "name": public(config.ticket),
            "sha256": file_sha256(folder / METADATA_FILE),
            "method": ticket.method,
            "objective": ticket.objective,
            "sparsity": ticket.sparsity,
        },
        "base_model": {
            "id": base.id,
            "revision": base.revision,
            "fingerprint": base.fingerprint,
        },
        "recovery": public_search(config.to_dict()) | {"ticket": public(config.ticket)},
        "result": measured,
        "trained_on": list(texts),
    }


def trainings_of(name: str) -> tuple[Training, ...]:
    """Return what is recorded of the trainings of a checkpoint: of its weights, and of its mask.

    Args:
        name: A folder, or any other name of a model.

    Raises:
        ModelError: As for `Recovered.find`.
    """
    recovered = Recovered.find(name)
    of_mask = Training.of_export(recovered.folder if recovered else expanded(name))
    return tuple(filter(None, [recovered.training if recovered else None, of_mask]))


def recovered_from(name: str) -> str | None:
    """Return the loadable base model of a recovered checkpoint; None for any other model.

    A base model in a local folder is found as long as the checkpoint lies in its run's folder. The
    files may come from a stranger, and are not trusted.

    Args:
        name: A folder, or any other name of a model.

    Raises:
        ModelError: The record is damaged, or not one that a recovery writes.
    """
    try:
        return _base_of(expanded(name))
    except Defect as error:
        raise ModelError(f"{name!r} does not say what it was made of: {error}") from error


def _base_of(folder: Path) -> str | None:
    try:
        content = read_regular(folder / RECOVERY_FILE, _MOST_BYTES)
    except OSError:
        return None
    base = parse_json_object(content, RECOVERY_FILE).get("base_model")
    name = base.get("id") if isinstance(base, dict) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise Defect(f"{RECOVERY_FILE} names no base model")
    try:
        result = read_regular(folder.absolute().parent / RESULT, _MOST_BYTES)
        used = parse_json_object(result, RESULT).get("base_model")
    except (OSError, Defect):
        return name
    is_it = isinstance(used, str) and public_model(used)[0] == name and expanded(used).is_dir()
    return str(used) if is_it else name
