"""What came of an export."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.shown import Shown
from tamtctl.models.archives import Archive
from tamtctl.ticket.exporting.trimmed_vocabulary import TrimmedVocabulary


@dataclass(frozen=True, repr=False, kw_only=True)
class Exported(Shown):
    """What every export has.

    Attributes:
        path: The folder.
        archive: The folder as one compressed file, if that was asked for.
    """

    path: Path
    archive: Archive | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}
        del values["archive"]
        packed = {} if self.archive is None else {"archive": self.archive.to_dict()}
        return values | {"path": str(self.path)} | packed


@dataclass(frozen=True, repr=False)
class ExportResult(Exported):
    """The result of an export.

    Attributes:
        path: The checkpoint's folder.
        model_class: The class of transformers that loads it.
        head: One of `HEADS`.
        head_reason: A phrase on why it is this head.
        load: A line of Python that loads the folder.
        modules: The modules of sentence-transformers that it keeps; empty for other models.
        bytes: Size of its files.
        zeros: Number of pruned weights in the checkpoint.
        weights: Number of weights in its masked matrices.
        parameters: Number of all its weights.
        new: Names of parameters that the base model lacks and that are random.
        skipped: Matrices of the ticket that the class lacks.
        unused: Tensors of the base model that the class lacks.
        left_out: Files of the base model's folder that were not copied.
        notes: Notes on the checkpoint, a line each.
        checked: What was compared after loading it again: its outputs, and embeddings if any.
        vocabulary: The result of trimming the vocabulary; None if it is whole.
        archive: The folder as one compressed file, if that was asked for.
    """

    model_class: str
    head: str
    head_reason: str
    load: str
    modules: tuple[str, ...]
    bytes: int
    zeros: int
    weights: int
    parameters: int
    new: tuple[str, ...]
    skipped: tuple[str, ...]
    unused: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    checked: str
    vocabulary: TrimmedVocabulary | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = super().to_dict()
        if self.vocabulary is None:  # a field only where trimming was asked for
            del values["vocabulary"]
        return values
