"""Reading a ticket folder from an untrusted source, with each check before memory is spent."""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.masks import packed_size
from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.untrusted import (
    MAX_NAME_LENGTH,
    Defect,
    Fields,
    parse_json_object,
    parse_safetensors,
    reason,
    show,
)
from tamtctl.models.fingerprints import combined_fingerprint
from tamtctl.ticket.format.head_format import HEAD_FILE as HEAD_FILE
from tamtctl.ticket.format.head_format import StoredHead, check_head
from tamtctl.ticket.format.mask_codec import (
    Mask,
    Stored,
    check_contents,
    check_stored,
    decode_mask,
)
from tamtctl.ticket.format.metadata import (
    FORMAT_VERSION,
    MASK_FILE,
    MAX_HEAD_BYTES,
    MAX_HEAD_HEADER,
    MAX_METADATA_BYTES,
    METADATA_FILE,
    TicketMetadata,
    read_metadata,
)
from tamtctl.ticket.format.pattern_check import check_pattern

ABSENT = "none"  # the detail of the check of a file that a ticket need not have, and has not


@dataclass(frozen=True)
class Check:
    """One thing that was verified about a ticket folder.

    Attributes:
        name: The name of the check.
        passed: Whether it passed; None if it could not be made, after an earlier failure or without
            the base model's weights.
        detail: What was found or, after a failure, what is wrong.
    """

    name: str
    passed: bool | None
    detail: str


class TicketReader:
    """Reads a ticket folder in steps, each of which relies on those before it.

    A step raises Defect if the folder violates the format; else it returns a line on it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata: TicketMetadata
        self.stored: dict[str, Stored] = {}  # masks as they are encoded
        self.mlm_head: StoredHead | None = None
        self._document: dict[str, Any] = {}
        self._files: dict[str, tuple[int, str]] = {}  # name → bytes, sha256

    @property
    def _document_steps(self) -> dict[str, Callable[[], str]]:
        return {
            METADATA_FILE: self._read_document,
            "metadata": self._read_metadata,
            "sparsity": self._check_sparsity,
            "fingerprint": self._check_fingerprint,
            "file list": self._read_file_list,
        }

    @property
    def steps(self) -> dict[str, Callable[[], str]]:
        """The steps by name, in their order."""
        return self._document_steps | {
            MASK_FILE: self._read_masks,
            "kept counts": self._check_kept_counts,
            HEAD_FILE: self._read_head,
        }

    def read(self) -> None:
        """Take all steps.

        Raises:
            TicketError: A step fails; the message is that of the first one.
        """
        self._take(*self.steps.values(), self._check_pattern)

    def read_metadata(self) -> TicketMetadata:
        """Read and check the metadata alone.

        Raises:
            TicketError: ``ticket.json`` is missing or violates the format.
        """
        self._take(self._read_document, self._read_metadata)
        return self.metadata

    def read_at_a_glance(self) -> TicketMetadata:
        """Check ``ticket.json``, and that the files it lists have their full size; read no mask.

        Raises:
            TicketError: A check fails; the message is that of the first one.
        """
        self._take(*self._document_steps.values(), self._check_file_sizes, self._check_lengths)
        return self.metadata

    def read_file_list(self) -> dict[str, int]:
        """Read and check ``ticket.json`` alone, and return name → bytes of the files that it lists.

        Raises:
            TicketError: It is missing, violates the format, or lists an implausible size.
        """
        self._take(*self._document_steps.values(), self._check_file_sizes)
        return {name: size for name, (size, _) in self._files.items()}

    def checks(self) -> list[Check]:
        """Take the steps up to the first that fails, and return a check for every step."""
        checks: list[Check] = []
        for name, step in self.steps.items():
            if checks and not checks[-1].passed:
                checks.append(Check(name, None, "not checked"))
                continue
            try:
                checks.append(Check(name, True, step()))
            except Defect as defect:
                checks.append(Check(name, False, str(defect)))
        if checks[-1].passed and self.metadata.encoding == "delta":
            base = self.metadata.base_model.id
            checks.append(Check("masks", None, f"not checked: it takes the weights of {base}"))
        elif checks[-1].passed and self.metadata.is_of_a_pattern:
            checks.append(self._pattern_check())
        return checks

    def _pattern_check(self) -> Check:
        try:
            found = self._check_pattern()
        except Defect as defect:
            return Check("pattern", False, str(defect))
        return Check("pattern", True if found else None, found or "not checked: it is unknown here")

    def _take(self, *steps: Callable[[], str]) -> None:
        try:
            for step in steps:
                step()
        except Defect as defect:
            raise TicketError(f"ticket {str(self.folder)!r}: {defect}") from defect

    def _read_document(self) -> str:
        content = self._read_file(METADATA_FILE, MAX_METADATA_BYTES)
        self._document = parse_json_object(content, METADATA_FILE)
        return f"{len(content):,} bytes of well-formed JSON"

    def _read_metadata(self) -> str:
        values = Fields(self._document, METADATA_FILE)
        self.metadata = read_metadata(values)
        count = len(self.metadata.parameters)
        return f"format version {FORMAT_VERSION}, {count} matrices, {self.metadata.total:,} weights"

    def _check_sparsity(self) -> str:
        stated = Fields(self._document, METADATA_FILE).share("sparsity")
        measured = self.metadata.sparsity
        if not math.isclose(stated, measured, rel_tol=0, abs_tol=1e-9):
            raise Defect(f"sparsity is stated as {stated!r}, but the kept counts give {measured!r}")
        return f"{measured:.6f} of all weights are zero"

    def _check_fingerprint(self) -> str:
        parameters = self.metadata.parameters
        computed = combined_fingerprint(
            {name: entry.shape for name, entry in parameters.items()},
            {name: entry.sha256 for name, entry in parameters.items()},
        )
        if computed != self.metadata.base_model.fingerprint:
            raise Defect("the base model's fingerprint does not follow from the parameters")
        return f"{computed[:16]}… follows from the parameters"

    def _read_file_list(self) -> str:
        files = Fields(self._document, METADATA_FILE).section("files")
        for name in files:
            entry = files.section(name)
            self._files[name] = (entry.integer("bytes"), entry.sha256("sha256"))
        if MASK_FILE not in self._files:
            raise Defect(f"{METADATA_FILE}: files does not list {MASK_FILE}")
        if HEAD_FILE not in self._files and (self.folder / HEAD_FILE).exists():
            raise Defect(f"{METADATA_FILE}: files does not list {HEAD_FILE}, which is there")
        return f"{len(self._files)} listed"

    def _check_file_sizes(self) -> str:
        """Check that the listed sizes are plausible for the shapes, before memory is allocated."""
        least, most = self._mask_file_limits()
        size = self._files[MASK_FILE][0]
        if not least <= size <= most:
            raise Defect(f"{MASK_FILE}: {size} bytes do not fit the stated shapes")
        if self._files.get(HEAD_FILE, (0,))[0] > MAX_HEAD_BYTES:
            raise Defect(f"{HEAD_FILE}: more than {MAX_HEAD_BYTES} bytes are refused")
        return "plausible"

    def _check_lengths(self) -> str:
        """Compare the sizes of the files with those listed."""
        for name in sorted(self._files.keys() & {MASK_FILE, HEAD_FILE}):
            self._check_length(name)
        return "as stated"

    def _check_length(self, name: str) -> int:
        size, actual = self._files[name][0], self._size(name)
        if actual != size:
            raise Defect(f"{name} is damaged: {actual} bytes instead of {size}; fetch it again")
        return size

    def _mask_file_limits(self) -> tuple[int, int]:
        entries = self.metadata.parameters.values()
        packed = sum(packed_size(entry.numel) for entry in entries)
        header = self._header_limit
        if self.metadata.encoding == "bits":
            return packed, packed + header
        return 0, packed + packed // 100 + header  # zstd makes incompressible data a little larger

    @property
    def _header_limit(self) -> int:
        """Most bytes that the header of a safetensors file may have."""
        return 4096 + (192 + 2 * MAX_NAME_LENGTH) * len(self.metadata.parameters)

    def _read_masks(self) -> str:
        content = self._read_listed(MASK_FILE, *self._mask_file_limits())
        found = parse_safetensors(content, MASK_FILE, self._header_limit)
        names = self.metadata.parameters.keys()
        if strange := sorted(found.keys() - names):
            raise Defect(f"{METADATA_FILE} lacks the matrix {show(strange[0])}")
        if lost := sorted(names - found.keys()):
            raise Defect(f"{MASK_FILE} lacks the mask of {lost[0]}")
        for name, stored in found.items():
            if stored.dtype != "U8" or len(stored.shape) != 1:
                raise Defect(f"{MASK_FILE}: mask of {name} is not made of bytes")
            size = packed_size(self.metadata.parameters[name].numel)
            if self.metadata.encoding == "bits" and len(stored.data) != size:
                raise Defect(f"{MASK_FILE}: mask of {name} is not {size} bytes")
            self.stored[name] = np.frombuffer(stored.data, np.uint8)
        return f"{len(content):,} bytes, checksum and shapes as stated"

    def _check_kept_counts(self) -> str:
        encoding = self.metadata.encoding
        entries = self.metadata.parameters
        try:
            check_contents(self.stored, encoding, {n: e.numel for n, e in entries.items()})
        except Defect as defect:
            raise Defect(f"{MASK_FILE}: {defect}") from defect
        for name, entry in entries.items():
            try:
                check_stored(self.stored[name], encoding, entry.numel, entry.kept)
            except Defect as defect:
                raise Defect(f"{MASK_FILE}: mask of {name}: {defect}") from defect
        return f"{self.metadata.kept:,} of {self.metadata.total:,} weights, " + (
            "possible for each" if encoding == "delta" else "as stated for each"
        )

    def _check_pattern(self) -> str:
        """Check the masks against the stated pattern; an unknown one is not checked."""
        metadata = self.metadata
        if metadata.encoding == "delta" or not metadata.is_of_a_pattern:
            return ""

        def mask(name: str) -> Mask:
            entry = metadata.parameters[name]
            return decode_mask(self.stored[name], metadata.encoding, entry.shape, entry.kept)

        shapes = {name: entry.shape for name, entry in metadata.parameters.items()}
        return check_pattern(metadata.pattern, shapes, mask) or ""

    def _read_head(self) -> str:
        if HEAD_FILE not in self._files:
            return ABSENT
        content = self._read_listed(HEAD_FILE, 0, MAX_HEAD_BYTES)
        found = parse_safetensors(content, HEAD_FILE, MAX_HEAD_HEADER)
        check_head(found, {n: e.shape for n, e in self.metadata.parameters.items()})
        self.mlm_head = StoredHead(content, found)
        return f"{len(self.mlm_head)} tensors, {len(content):,} bytes, checksum as stated"

    def _read_listed(self, name: str, least: int, most: int) -> bytes:
        """Read a file if its size is plausible and as listed, and check its SHA-256."""
        size, sha256 = self._check_length(name), self._files[name][1]
        if not least <= size <= most:
            raise Defect(f"{name}: {size} bytes do not fit the stated shapes")
        content = self._read_file(name, size)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Defect(f"{name} is damaged: its SHA-256 is not the listed one; fetch it again")
        return content

    def _read_file(self, name: str, limit: int) -> bytes:
        if (size := self._size(name)) > limit:
            raise Defect(f"{name} has {size} bytes; more than {limit} are refused")
        try:
            return read_regular(self.folder / name, limit)
        except (OSError, MemoryError) as error:
            raise Defect(f"cannot read {name}: {reason(error)}") from error

    def _size(self, name: str) -> int:
        """Return the size of a regular file; links are followed, as the Hub's cache has them."""
        try:
            status = (self.folder / name).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Defect(f"has no {name}; give a complete ticket folder") from error
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            raise Defect(f"cannot read {name}: {reason(error)}") from error
        if not stat.S_ISREG(status.st_mode):
            raise Defect(f"{name} is not a regular file")
        return status.st_size
