"""Token streams on disk: written once, whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tamtctl.data.text.documents import Document
from tamtctl.data.tokenization import LineTokenizer
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.files import unfinished

METADATA_FILE = "corpus.json"
TRAIN_FILE = "train.bin"
HELD_OUT_FILE = "held_out.bin"

CHARACTERS_AT_ONCE = 2**20

_UNFINISHED = ".unfinished-"


class StreamWriter:
    """Appends documents to one stream, encoding about a megabyte of text at a time."""

    def __init__(
        self, file: BinaryIO, encoder: LineTokenizer, max_tokens: int | None = None
    ) -> None:
        self.documents = 0
        self.tokens = 0
        self.unknown = 0
        self._file = file
        self._encoder = encoder
        self._max_tokens = max_tokens
        self._lines: list[str] = []
        self._characters = 0

    @property
    def is_full(self) -> bool:
        """Whether as many tokens as were asked for are written."""
        return self._max_tokens is not None and self.tokens >= self._max_tokens

    def add(self, document: Document) -> bool:
        """Append the document; return whether tokens were written."""
        self.documents += 1
        self._lines += document.lines
        self._characters += len(document.text)
        if self._characters < CHARACTERS_AT_ONCE:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write what was added so far."""
        ids = self._encoder.encode(self._lines)
        if self._max_tokens is not None:
            ids = ids[: self._max_tokens - self.tokens]
        self._file.write(ids.tobytes())
        self.tokens += len(ids)
        self.unknown += self._encoder.count_unknown(ids)
        self._lines, self._characters = [], 0


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill under a temporary name; it appears whole or not at all."""
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
        # A damaged one must go first, since only empty folders can be replaced.
        folder.replace(new / "damaged")
        shutil.rmtree(new / "damaged")
        new.replace(folder)


def is_intact(folder: Path) -> bool:
    """Tell whether a folder holds all that was written of a corpus."""
    try:
        metadata = json.loads((folder / METADATA_FILE).read_text())
        itemsize = np.dtype(metadata["dtype"]).itemsize
        sizes = {name: tokens * itemsize for name, tokens in metadata["tokens"].items()}
        found = {name: (folder / name).stat().st_size for name in (TRAIN_FILE, HELD_OUT_FILE)}
        counted = metadata["unknown"].keys() if {"lacking", "repeats"} <= metadata.keys() else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return sizes == found and sizes.keys() == counted
