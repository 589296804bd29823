"""The Hub id that a user declares for a local model, checked against the Hub's cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from tamtctl.foundations.errors import ModelError, TicketError
from tamtctl.foundations.public_names import split_base_model
from tamtctl.models.files import CONFIG_FILE


@dataclass(frozen=True)
class DeclaredBase:
    """A model on the Hub that a user declares to be a ticket's base model.

    Attributes:
        id: Its Hub id.
        revision: Its commit if it was checked, else the declared revision; None if there is
            neither.
        is_checked: Whether the weights were found equal to those in the Hub's cache; False if the
            cache has no complete copy.
    """

    id: str
    revision: str | None
    is_checked: bool

    @classmethod
    def of(cls, declared: str, sha256: Mapping[str, str]) -> DeclaredBase:
        """Compare the declared model with the weights at hand, without using the network.

        Args:
            declared: ``org/name``, or ``org/name@revision``.
            sha256: Name of a matrix → SHA-256 of its weight, see
                `tamtctl.models.encoder.fingerprint`.

        Raises:
            UsageError: The declared name is not a Hub id.
            TicketError: The model of that name in the Hub's cache has other weights.
        """
        from tamtctl.models.encoder import sha256_of_weight
        from tamtctl.models.loading import load_encoder

        name, revision = split_base_model(declared)
        found = huggingface_hub.try_to_load_from_cache(
            name, CONFIG_FILE, revision=revision or "main"
        )
        if not isinstance(found, str):
            return cls(name, revision, False)
        snapshot = Path(found).parent
        try:
            theirs = load_encoder(str(snapshot), with_head=False).weights
        except ModelError:  # the cache holds only a part of the model
            return cls(name, revision, False)
        for matrix, checksum in sha256.items():
            if matrix not in theirs or sha256_of_weight(theirs[matrix]) != checksum:
                raise TicketError(
                    f"--base-model {declared}: {matrix} of the copy in the Hub's cache "
                    f"({snapshot.name[:12]}) has other weights; give the right id and revision"
                )
        return cls(name, snapshot.name, True)

    @property
    def names(self) -> tuple[str, str | None]:
        """Id and revision."""
        return self.id, self.revision

    @property
    def note(self) -> str:
        """One line that says what was compared."""
        if self.is_checked:
            return f"base model {self.id} at {self.revision}: the weights are the same"
        return f"base model {self.id}: not checked, for it is not in the Hub's cache"
