"""The masks of a ticket as they are stored, and what can be done with them without a model.

Only functions that take a tensor or a model import torch or transformers, so that looking at a
ticket needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.masks import digest_of, pack
from tamtctl.foundations.public_names import (
    LocalPaths,
    texts_of,
)
from tamtctl.foundations.untrusted import Defect, show
from tamtctl.ticket.finding import locate_base
from tamtctl.ticket.format.mask_codec import (
    ENCODINGS,
    Mask,
    Stored,
    decode_mask,
    encode_mask,
    packed_chunks,
    repacked,
)
from tamtctl.ticket.format.metadata import HEAD_FILE, MASK_FILE, METADATA_FILE, TicketMetadata
from tamtctl.ticket.format.pattern_check import check_pattern
from tamtctl.ticket.format.reader import TicketReader
from tamtctl.ticket.weight_checks import base_line, check_shapes, check_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StoredTicket(TicketMetadata):
    """The masks of every maskable matrix of one pre-trained encoder, and their metadata.

    With the encoding ``delta``, the masks are known only together with the base model's weights.
    Then `decode` the ticket before masks are used.

    Attributes:
        stored: Name → mask in the ticket's encoding, uint8 of shape (bytes,); see
            `tamtctl.ticket.format.mask_codec`.
        mlm_head: The masked-LM head that was trained with the mask, name → tensor; None if it is
            not part of the ticket.
        places: Local places of the model and texts, for which the metadata have public names.
    """

    stored: Mapping[str, Stored] = field(repr=False)
    mlm_head: Mapping[str, Tensor] | None = field(default=None, repr=False)
    places: LocalPaths = field(default_factory=LocalPaths, repr=False)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load a ticket folder and verify all of it: shapes, sizes, checksums, spare bits, counts.

        Raises:
            TicketError: The folder is no ticket, is damaged, or has a newer format version.
        """
        reader = TicketReader(Path(folder))
        reader.read()
        metadata = {f.name: getattr(reader.metadata, f.name) for f in fields(TicketMetadata)}
        places = LocalPaths.read(reader.folder, reader.metadata.base_model.fingerprint)
        return cls(**metadata, stored=reader.stored, mlm_head=reader.mlm_head, places=places)

    def with_checked_pattern(self) -> Self:
        """Return this ticket, which must not be encoded as ``delta``, after checking its pattern.

        Raises:
            TicketError: The masks do not have the pattern that the ticket names.
        """
        if self.is_of_a_pattern:
            shapes = {name: self.parameters[name].shape for name in self.stored}
            try:
                check_pattern(self.pattern, shapes, self.decoded)
            except Defect as defect:
                raise TicketError(f"this ticket: {defect}") from defect
        return self

    def files(self) -> dict[str, bytes]:
        """Return name → content of the files of the ticket's folder, without the card."""
        files = {MASK_FILE: safetensors.numpy.save(dict(self.stored))}
        if self.mlm_head is not None:
            from safetensors.torch import save

            files[HEAD_FILE] = save(dict(self.mlm_head))
        return files | {METADATA_FILE: self.to_json(files).encode()}

    def find_base(self, model: Path | str | None = None) -> tuple[str, str | None]:
        """Return name and revision by which to load the base model on this machine.

        Args:
            model: Folder or Hub id that the user gives for it, at its newest revision; None: the
                model that the ticket names.

        Raises:
            ModelError: The ticket names a local folder that does not exist here.
        """
        return (str(model), None) if model else locate_base(self.base_model, self.places)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the names by which to read the texts of the search on this machine.

        Args:
            name: ``corpus``, ``held_out`` or ``check_corpus``.
        """
        if name in self.places.texts:
            return self.places.texts[name]
        return texts_of(self.search, name)

    def mask(self, name: str) -> Tensor:
        """Return one boolean mask, of the shape of its weight; True keeps.

        Raises:
            TicketError: The ticket is encoded as ``delta``; `decode` it first.
        """
        self._refuse_delta()
        return _tensor(self.decoded(name, None))

    def decoded(self, name: str, weight: NDArray[Any] | None = None) -> Mask:
        """Return one mask as a numpy array, without torch.

        Args:
            name: Name of the matrix.
            weight: Its pre-trained weight in float32, already checked; ``delta`` needs it.

        Raises:
            TicketError: The mask is damaged.
        """
        entry = self.parameters[name]
        try:
            return decode_mask(self.stored[name], self.encoding, entry.shape, entry.kept, weight)
        except Defect as defect:
            raise TicketError(f"the mask of {name} is damaged: {defect}") from defect

    def _refuse_delta(self) -> None:
        if self.encoding == "delta":
            raise TicketError(
                "the masks are stored as what differs from the magnitude masks of "
                f"{self.base_line}; decode(weights) gives the ticket with masks of its own"
            )

    def packed_mask(self, name: str) -> Iterator[NDArray[np.uint8]]:
        """Yield one mask as packed bits, a megabyte at a time; see `tamtctl.foundations.masks`.

        Raises:
            TicketError: The ticket is encoded as ``delta``; `decode` it first.
        """
        self._refuse_delta()
        try:
            yield from packed_chunks(self.stored[name], self.encoding, self.parameters[name].numel)
        except Defect as defect:
            raise TicketError(f"the mask of {name} is damaged: {defect}") from defect

    def encode(self, encoding: str, weights: Mapping[str, Tensor] | None = None) -> Self:
        """Return this ticket in another encoding.

        Args:
            encoding: ``bits``, ``zstd`` or ``delta``. ``delta`` becomes ``zstd`` if the differences
                from the magnitude masks are no smaller than the masks.
            weights: Name → pre-trained weight of every matrix; needed to or from ``delta``.

        Raises:
            TicketError: The weights are needed and missing, or are not those of the ticket.
        """
        if encoding not in ENCODINGS:
            raise TicketError(f"no encoding {show(encoding)}; there are {', '.join(ENCODINGS)}")
        if encoding == self.encoding:
            return self
        weights = weights or {}
        if "delta" not in (encoding, self.encoding):
            packed = {n: self._repacked(n) for n in self.parameters}
            return replace(self, encoding=encoding, stored=packed)
        if absent := [name for name in self.parameters if name not in weights]:
            raise TicketError(
                f"the weight of {absent[0]} is missing; this takes those of {self.base_line}"
            )
        self.check_weights(weights)
        candidates = ("delta", "zstd") if encoding == "delta" else (encoding,)
        stored: dict[str, dict[str, Stored]] = {candidate: {} for candidate in candidates}
        for name in self.parameters:
            weight = _array(weights[name])
            mask = self.decoded(name, weight)
            for candidate, masks in stored.items():
                masks[name] = encode_mask(mask, candidate, weight)
        smallest = min(stored, key=lambda candidate: sum(map(len, stored[candidate].values())))
        found = replace(self, encoding=smallest, stored=stored[smallest])
        return found.with_checked_pattern() if self.encoding == "delta" else found

    def decode(self, weights: Mapping[str, Tensor]) -> Self:
        """Return this ticket in the encoding ``bits``.

        Args:
            weights: Name → pre-trained weight of every matrix.

        Raises:
            TicketError: The weights are not those of the ticket; see `check_weights`.
        """
        if self.encoding != "delta":  # `encode` checks the weights of delta masks
            self.check_weights(weights)
        return self.encode("bits", weights)

    def full_masks(
        self, weights: Mapping[str, Tensor], *, model: str | None = None, remedy: str | None = None
    ) -> dict[str, Tensor]:
        """Return name → boolean mask for every matrix of a model; uncovered ones are all True.

        Args:
            weights: Name → pre-trained weight of every maskable matrix of the model.
            model: The name of the model in an error; see `check_weights`.
            remedy: The advice in an error; see `check_weights`.

        Raises:
            TicketError: The weights are not those of the ticket.
        """
        self.check_weights(weights, model=model, remedy=remedy)
        import torch

        known = self.masks_over({n: w for n, w in weights.items() if n in self.parameters})
        return {
            name: known.mask(name)
            if name in self.parameters
            else torch.ones_like(weight, dtype=torch.bool)
            for name, weight in weights.items()
        }

    @property
    def masks_digest(self) -> bytes:
        """SHA-256 of the encoded masks; it identifies the masks only in the encoding ``bits``."""
        return digest_of(self.stored)

    @property
    def stored_bytes(self) -> int:
        """Size of the encoded masks in bytes."""
        return sum(stored.size for stored in self.stored.values())

    def _repacked(self, name: str) -> Stored:
        try:
            return repacked(self.stored[name], self.encoding, self.parameters[name].numel)
        except Defect as defect:
            raise TicketError(f"the mask of {name} is damaged: {defect}") from defect

    def masks_over(self, weights: Mapping[str, Tensor]) -> Self:
        """Return this ticket; if it is a ``delta``, with the masks of these matrices as bits.

        All masks are decoded before any weight changes, so that a damaged ticket leaves a model
        untouched.
        """
        if self.encoding != "delta":
            return self
        masks = {name: pack(self.decoded(name, _array(w))) for name, w in weights.items()}
        return replace(self, encoding="bits", stored=masks).with_checked_pattern()

    def check_weights(
        self,
        weights: Mapping[str, Tensor],
        *,
        model: str | None = None,
        remedy: str | None = None,
        checksums: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """Check that a model holds the weights that the masks were found for.

        Only the matrices that the ticket covers are compared: a ticket of the linear layers alone
        fits any model with these.

        Args:
            weights: Name → pre-trained weight of every maskable matrix of the model.
            model: The name of the model in an error.
            remedy: What an error about other weights advises to do.
            checksums: Name → SHA-256 of each weight, if it was computed before.

        Returns:
            The ticket's matrices that the model lacks; only the pooler's may be among them.

        Raises:
            TicketError: A matrix is missing, has another shape, or holds other weights.
        """
        return check_weights(self, weights, model=model, remedy=remedy, checksums=checksums)

    def check_shapes(
        self, weights: Mapping[str, Tensor], *, model: str | None = None, remedy: str | None = None
    ) -> tuple[str, ...]:
        """Check that a model has the matrices that the ticket covers, in their shapes.

        Arguments, result and errors are those of `check_weights`.
        """
        return check_shapes(self, weights, model=model, remedy=remedy)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Name → boolean mask; a mask is unpacked when it is accessed."""
        return _Masks(self)

    @property
    def base_line(self) -> str:
        """The base model of the ticket, as errors name it."""
        return base_line(self)


class _Masks(Mapping[str, "Tensor"]):
    """A ticket's masks, unpacked one at a time, as that takes eight times the memory."""

    def __init__(self, ticket: StoredTicket) -> None:
        self._ticket = ticket

    def __getitem__(self, name: str) -> Tensor:
        return self._ticket.mask(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ticket.parameters)

    def __len__(self) -> int:
        return len(self._ticket.parameters)


def _tensor(mask: Mask) -> Tensor:
    import torch

    return torch.from_numpy(mask)


def _array(weight: Tensor) -> NDArray[Any]:
    """Return a weight as a numpy array in float32, from which magnitude masks are computed."""
    import torch

    return weight.detach().to("cpu", torch.float32).numpy()
