"""The ticket folder, format version 1: its file names, its metadata, and how both are checked.

A ticket folder may come from anybody. Its files are opened by the fixed names below and by no name
found inside it, and nothing in it is executed. `TicketReader` allocates memory only after it has
compared the stated sizes and shapes with the files.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import (
    MAX_WEIGHTS,
    Defect,
    Fields,
    check_name,
    check_plain,
    show,
)
from tamtctl.ticket.format.head_format import HEAD_FILE as HEAD_FILE
from tamtctl.ticket.format.mask_codec import ENCODINGS
from tamtctl.ticket.format.patterns import PATTERN_NAME, UNSTRUCTURED
from tamtctl.ticket.local_names import METADATA_FILE as METADATA_FILE

MASK_FILE = "mask.safetensors"
CARD_FILE = "README.md"
TICKET_FILES = (METADATA_FILE, MASK_FILE, HEAD_FILE, CARD_FILE)

FORMAT_VERSION = 1

# Limits far above any real ticket; a folder beyond them is refused before it is read.
MAX_METADATA_BYTES = 2 * 2**20
MAX_CARD_BYTES = 2 * 2**20
MAX_HEAD_BYTES = 2**31
MAX_HEAD_HEADER = 2**16


@dataclass(frozen=True)
class BaseModel:
    """The pre-trained checkpoint that a ticket is for.

    Attributes:
        id: Hub id, ``nano``, or the last part of a local folder's path.
        revision: The Hub commit; None if it did not come from the Hub.
        model_type: The architecture's name in transformers (``bert``).
        fingerprint: Hex SHA-256 over its maskable matrices; see
            `tamtctl.models.encoder.fingerprint`.
    """

    id: str
    revision: str | None
    model_type: str
    fingerprint: str


@dataclass(frozen=True)
class ParameterEntry:
    """One masked matrix.

    Attributes:
        shape: The shape of the weight.
        kept: Number of weights the mask keeps.
        sha256: Hex SHA-256 of the base weight as little-endian float32.
    """

    shape: tuple[int, ...]
    kept: int
    sha256: str

    @property
    def numel(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TicketMetadata(Shown):
    """The metadata of a ticket, the content of ``ticket.json``.

    Attributes:
        base_model: The checkpoint that it is for.
        target_sparsity: The share of zeros that was asked for, in [0, 1].
        method: ``tamt``, ``imp``, ``magnitude``, ``random``, …
        objective: What the mask was trained for, such as ``mlm`` or ``mlm+kd``; None for a method
            without training.
        allocation: How the sparsity is spread over the matrices: ``uniform``, the same in each, or
            ``free``.
        pattern: Which weights the masks keep together; see `tamtctl.ticket.format.patterns`. The
            file has no such field if it is ``unstructured``.
        search: The whole configuration of the search, seed included, as plain JSON values.
        metrics: The measurements, as plain JSON values.
        parameters: Name → shape, kept count and checksum of every masked matrix. Names are relative
            to the base encoder, so that one ticket fits every head class.
        encoding: How the masks are stored: ``bits``, ``zstd`` or ``delta``; see
            `tamtctl.ticket.format.mask_codec`.
        tamtctl_version: The version that wrote it.
        created: ISO 8601 time in UTC.
    """

    base_model: BaseModel
    target_sparsity: float
    method: str
    objective: str | None
    allocation: str
    search: dict[str, Any] = field(repr=False)
    metrics: dict[str, Any]
    parameters: dict[str, ParameterEntry] = field(repr=False)
    encoding: str
    tamtctl_version: str
    created: str
    pattern: str = UNSTRUCTURED

    @property
    def is_of_a_pattern(self) -> bool:
        """Whether the masks have a pattern other than ``unstructured``."""
        return self.pattern != UNSTRUCTURED

    @property
    def total(self) -> int:
        """Number of weights in all masked matrices."""
        return sum(entry.numel for entry in self.parameters.values())

    @property
    def kept(self) -> int:
        """Number of weights that the masks keep."""
        return sum(entry.kept for entry in self.parameters.values())

    @property
    def sparsity(self) -> float:
        """Measured share of zeros in all masked matrices."""
        return (self.total - self.kept) / self.total

    @property
    def sparsities(self) -> dict[str, float]:
        """Share of zeros of the word ``embeddings``, and of all other matrices, the ``layers``.

        Empty if all matrices have the same sparsity, or if the ticket masks only one of the two.
        """
        parts: dict[str, list[ParameterEntry]] = {"embeddings": [], "layers": []}
        for name, entry in self.parameters.items():
            is_table = name.removesuffix(".weight").endswith("embeddings")
            parts["embeddings" if is_table else "layers"].append(entry)
        if self.allocation == "uniform" or not all(parts.values()):
            return {}
        return {
            part: 1 - sum(one.kept for one in entries) / sum(one.numel for one in entries)
            for part, entries in parts.items()
        }

    def describe(self) -> dict[str, Any]:
        """Return the content of ``ticket.json`` without its list of files, as plain JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(TicketMetadata)}
        if not self.is_of_a_pattern:  # as in older tickets
            del values["pattern"]
        return values | {
            "format_version": FORMAT_VERSION,
            "sparsity": self.sparsity,
            "base_model": asdict(self.base_model),
            "parameters": {name: asdict(entry) for name, entry in self.parameters.items()},
        }

    def to_json(self, files: Mapping[str, bytes]) -> str:
        """Return the text of ``ticket.json``.

        Args:
            files: Name → content of the other files of the folder, without the card.

        Raises:
            TicketError: A value cannot be written as JSON, or not be read again.
        """
        document = self.describe() | {
            "files": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            },
        }
        for name in ("search", "metrics"):
            check_plain(document[name], name)
        text = json.dumps(document, sort_keys=True, indent=2) + "\n"
        read_metadata(Fields(json.loads(text), METADATA_FILE))  # must be readable again
        return text


def read_metadata(values: Fields) -> TicketMetadata:
    """Return the metadata of ``ticket.json`` after checking the type of every field.

    Unknown fields are ignored, as a later version may have them.

    Raises:
        TicketError: A field is missing or wrong, or the file is of another format version.
    """
    _check_version(values)
    base = values.section("base_model")
    return TicketMetadata(
        base_model=BaseModel(
            id=base.text("id"),
            revision=base.optional_text("revision"),
            model_type=base.text("model_type"),
            fingerprint=base.sha256("fingerprint"),
        ),
        target_sparsity=values.share("target_sparsity"),
        method=values.text("method"),
        objective=values.optional_text("objective"),
        allocation=values.text("allocation"),
        search=values.plain("search"),
        metrics=values.plain("metrics"),
        parameters=_read_parameters(values.section("parameters")),
        encoding=values.text("encoding"),
        tamtctl_version=values.text("tamtctl_version"),
        created=values.time("created"),
        pattern=_read_pattern(values),
    )


def _read_pattern(values: Fields) -> str:
    if "pattern" not in values:
        return UNSTRUCTURED
    pattern = values.text("pattern")
    if not re.fullmatch(PATTERN_NAME, pattern):
        raise Defect(f"{METADATA_FILE}: pattern {show(pattern)} is no name of a pattern")
    return pattern


def _check_version(values: Fields) -> None:
    version = values.integer("format_version", 1)
    if version > FORMAT_VERSION:
        raise Defect(f"made by a newer tamtctl (format version {version}); upgrade tamtctl")
    if (encoding := values.text("encoding")) not in ENCODINGS:
        raise Defect(f"encoding {show(encoding)} is unknown to this tamtctl; upgrade tamtctl")


def _read_parameters(values: Fields) -> dict[str, ParameterEntry]:
    parameters: dict[str, ParameterEntry] = {}
    for name in values:
        check_name(name, METADATA_FILE)
        entry = values.section(name)
        shape = entry.shape("shape")
        kept = entry.integer("kept", 0, math.prod(shape))
        parameters[name] = ParameterEntry(shape, kept, entry.sha256("sha256"))
    if not parameters:
        raise Defect(f"{METADATA_FILE}: parameters names no matrix")
    if sum(entry.numel for entry in parameters.values()) > MAX_WEIGHTS:
        raise Defect(f"{METADATA_FILE}: shapes claim more than {MAX_WEIGHTS} weights")
    return parameters
