"""Token streams on disk, written atomically."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from tamtctl.data.text.documents import Document
from tamtctl.data.tokenization import LineTokenizer
from tamtctl.data.units import Unit
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.files import unfinished

METADATA_FILE = "corpus.json"
TRAIN_FILE = "train.bin"
HELD_OUT_FILE = "held_out.bin"

ENDS_TYPE = np.dtype("<i8")  # type of the positions where rows end in a stream

CHARACTERS_AT_ONCE = 2**20

_UNFINISHED = ".unfinished-"


class StreamWriter:
    """Appends documents to one stream, encoding about a megabyte of text at a time.

    Attributes:
        documents: Number of documents added.
        tokens: Number of tokens written.
        unknown: Number of unknown tokens among them.
        rows: Number of rows written; None for packed text.
    """

    def __init__(
        self,
        file: BinaryIO,
        encoder: LineTokenizer,
        unit: Unit,
        ends: BinaryIO | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """Prepare to write into open files.

        Args:
            file: The file for token ids.
            encoder: Turns lines into token ids.
            unit: How documents are cut into rows.
            ends: The file for the ends of rows; None for packed text.
            max_tokens: Most tokens to write; None: all.
        """
        self.documents = 0
        self.tokens = 0
        self.unknown = 0
        self.rows = None if ends is None else 0
        self._file, self._ends = file, ends
        self._encoder, self._unit = encoder, unit
        self._max_tokens = max_tokens
        self._waiting = Waiting()

    @classmethod
    @contextmanager
    def into(
        cls,
        folder: Path,
        name: str,
        encoder: LineTokenizer,
        unit: Unit,
        max_tokens: int | None,
    ) -> Iterator[Self]:
        """Open the files of a stream in a folder, and yield a writer for them."""
        with ExitStack() as files:
            file = files.enter_context((folder / name).open("wb"))
            ends = None
            if not unit.is_packed:
                ends = files.enter_context(ends_file(folder, name).open("wb"))
            yield cls(file, encoder, unit, ends, max_tokens)

    @property
    def is_full(self) -> bool:
        """Whether ``max_tokens`` tokens are written."""
        return self._max_tokens is not None and self.tokens >= self._max_tokens

    def add(self, document: Document) -> bool:
        """Add a document; return whether tokens were written to the file."""
        self.documents += 1
        self._waiting.add(document, self._unit)
        if self._waiting.characters < CHARACTERS_AT_ONCE:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write all documents added so far."""
        ids, ends = self._waiting.encoded(self._encoder)
        if self._max_tokens is not None:
            ids = ids[: self._max_tokens - self.tokens]
            ends = np.unique(np.minimum(ends, len(ids)))
        self._file.write(ids.tobytes())
        if self._ends is not None and self.rows is not None:
            ends = ends[ends > 0]
            self._ends.write((ends + self.tokens).astype(ENDS_TYPE).tobytes())
            self.rows += len(ends)
        self.tokens += len(ids)
        self.unknown += self._encoder.count_unknown(ids)
        self._waiting = Waiting()


class Waiting:
    """Documents that wait to be encoded together.

    Attributes:
        characters: Number of characters in them.
    """

    def __init__(self) -> None:
        self.characters = 0
        self._lines: list[str] = []
        self._lines_of_rows: list[int] = []

    def add(self, document: Document, unit: Unit) -> None:
        """Add a document, cut into rows if the unit is one of rows."""
        self.characters += len(document.text)
        if unit.rows is None:
            self._lines += document.lines
            return
        for row in unit.rows(document):
            self._lines += row
            self._lines_of_rows.append(len(row))

    def encoded(
        self, encoder: LineTokenizer
    ) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64]]:
        """Return the tokens of all documents, and where each row ends.

        Rows without tokens are dropped; packed text has no rows.
        """
        if not self._lines_of_rows:
            return encoder.encode(self._lines), np.empty(0, np.int64)
        ids, counts = encoder.encode_each(self._lines)
        ends = np.cumsum(counts)[np.cumsum(self._lines_of_rows) - 1]
        return ids, ends[np.diff(ends, prepend=0) > 0]


def ends_file(folder: Path, name: str) -> Path:
    """Return the path of the file with a stream's ends of rows."""
    return (folder / name).with_suffix(".ends")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it appears under its name only when it is complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(folder.parent, _UNFINISHED, is_folder=True) as new:
            yield new
            _move_into_place(new, folder)
    except OSError as error:
        remedy = "set TAMTCTL_CACHE to another folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"no space left in {folder.parent} for the tokens of the corpus"
            raise CorpusError(f"{reason}; free some, or {remedy}") from error
        reason = f"cannot write the tokens of the corpus to {folder.parent}: {error.strerror}"
        raise CorpusError(f"{reason}; {remedy}") from error


def _move_into_place(new: Path, folder: Path) -> None:
    try:
        new.replace(folder)
    except OSError:
        if not folder.exists():
            raise
        if is_intact(folder):  # another process was faster
            return
        # A damaged folder is moved away first, since only empty folders can be replaced.
        folder.replace(new / "damaged")
        shutil.rmtree(new / "damaged")
        new.replace(folder)


def is_intact(folder: Path) -> bool:
    """Return whether a folder holds all files of a corpus in full length."""
    try:
        metadata = json.loads((folder / METADATA_FILE).read_text())
        itemsize = np.dtype(metadata["dtype"]).itemsize
        sizes = {name: tokens * itemsize for name, tokens in metadata["tokens"].items()}
        found = {name: (folder / name).stat().st_size for name in (TRAIN_FILE, HELD_OUT_FILE)}
        for name, rows in metadata["rows"].items():
            if rows is not None:
                sizes[f"ends of {name}"] = rows * ENDS_TYPE.itemsize
                found[f"ends of {name}"] = ends_file(folder, name).stat().st_size
        counted = metadata["unknown"].keys() if {"lacking", "repeats"} <= metadata.keys() else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return sizes == found and metadata["tokens"].keys() == counted
