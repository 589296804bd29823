"""Which texts a mask or weights were trained on, so that they are not measured on by mistake."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tamtctl.data.corpus import digests_of
from tamtctl.data.text.documents import PYTHON_DOCS, Source
from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.public_names import public_search, texts_of
from tamtctl.foundations.untrusted import Defect, parse_json_object
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import write_json

PRUNED_FILE = "pruned.json"  # the record of the mask, beside the weights of an export
_MOST_BYTES = 2**20
_REST, _NAMESAKE = "the rest", "a text so named"
_OTHER = "a text so named, of other content"
_ALL = "this very text"


@dataclass(frozen=True)
class Training:
    """What is recorded of the texts of a training.

    Attributes:
        whose: What was trained, in words: ``the ticket was``, ``its weights were``.
        digests: Digests of the texts, as in `tamtctl.data.corpus.digests_of`; None if there are
            none, as an old version recorded names only.
        places: Names of the texts on this machine.
        names: Names of the texts without their folders.
        has_held_out: Whether text apart was held out, so that all of these was trained on.
    """

    whose: str
    digests: tuple[str, ...] | None
    places: tuple[str, ...]
    names: tuple[str, ...]
    has_held_out: bool

    @classmethod
    def of(cls, ticket: Ticket) -> Self:
        """Return the training of a ticket's mask."""
        return cls(
            whose="the ticket was",
            digests=digests_in(ticket.metrics.get("trained_on")),
            places=ticket.texts("corpus"),
            names=texts_of(ticket.search, "corpus"),
            has_held_out=bool(texts_of(ticket.search, "held_out")),
        )

    @classmethod
    def of_export(cls, folder: Path) -> Self | None:
        """Return the training of the mask whose zeros a checkpoint has; None if none is recorded.

        The record may be from a stranger: what an export could not have written is ignored.
        """
        try:
            record = parse_json_object(read_regular(folder / PRUNED_FILE, _MOST_BYTES), PRUNED_FILE)
        except (OSError, Defect):
            return None
        mask = record.get("mask")
        if not isinstance(mask, dict):
            return None
        return cls(
            whose="its mask was",
            digests=digests_in(mask.get("trained_on")),
            places=(),
            names=texts_of(mask, "corpus"),
            has_held_out=bool(texts_of(mask, "held_out")),
        )

    def saw(self, source: Source, sources: Sequence[Source]) -> str | None:
        """Return what a text counts as; None if it was not trained on.

        Args:
            source: The text.
            sources: All texts that are measured on.
        """
        if self.digests is not None:
            of_all = digests_of(sources)
            is_one_of_all = len(of_all) < len(sources) and of_all[0] in self.digests
            if source.digest in self.digests or is_one_of_all:
                return _REST
        names = self.places
        if source.name == PYTHON_DOCS and source.name in names:
            return _REST
        if self.digests is None:
            names += self.names
            if Path(source.name).name in names:
                return _NAMESAKE
        if not any(_is_below(source.name, name) for name in names):
            return None
        return _NAMESAKE if self.digests is None else _OTHER


def write_record(ticket: Ticket, folder: Path) -> None:
    """Write the record of a ticket's mask beside weights that have its zeros."""
    base, search = ticket.base_model, public_search(ticket.search)
    record = {
        "what": "weights of a model, pruned by the mask of a ticket; no ticket",
        "tamtctl_version": importlib.metadata.version("tamtctl"),
        "base_model": {"id": base.id, "revision": base.revision, "fingerprint": base.fingerprint},
        "mask": {
            "method": ticket.method,
            "objective": ticket.objective,
            "sparsity": ticket.sparsity,
            "corpus": texts_of(search, "corpus"),
            "held_out": texts_of(search, "held_out"),
            "trained_on": ticket.metrics.get("trained_on"),
        },
    }
    write_json(folder / PRUNED_FILE, record)


def digests_in(recorded: object) -> tuple[str, ...] | None:
    """Return the digests of texts in a record, which is not trusted; None if there are none."""
    return tuple(map(str, recorded)) if isinstance(recorded, list | tuple) else None


@dataclass
class TrainedOn:
    """Which parts of texts something can be measured on, by what is recorded of its trainings.

    Attributes:
        trainings: The trainings; none of a model that is not known to be trained.
        only_tenth: Whether only the held-out part of each text is to be measured on.
        remark: A remark on the texts, set by `choose`; None if there is none.
    """

    trainings: Sequence[Training]
    only_tenth: bool = False
    remark: str | None = None

    def choose(self, sources: Sequence[Source]) -> list[bool]:
        """Return for each text whether all of it can be measured on, or only the held-out part.

        A training has not seen the tenth that it held out. One with held-out text apart was on all
        of its corpus.
        """
        seen = [
            [(one, what) for one in self.trainings if (what := one.saw(source, sources))]
            for source in sources
        ]
        found = sorted(
            (those[0] for those in seen if those), key=lambda pair: not pair[0].has_held_out
        )
        if found:
            training, what = found[0]
            self.remark = f"{training.whose} trained on {_ALL if training.has_held_out else what}"
            if len(found) < len(sources):
                self.remark += f", in {len(found)} of {len(sources)} files"
        return [
            not (
                self.only_tenth
                or source.name == PYTHON_DOCS
                or source.held_out is not None
                or any(not one.has_held_out for one, _ in those)
            )
            for source, those in zip(sources, seen, strict=True)
        ]


def _is_below(name: str, corpus: str) -> bool:
    """Return whether a text is the corpus of this name, or a file in the folder of this name."""
    if name == corpus:
        return True
    try:
        path, folder = Path(name).expanduser().resolve(), Path(corpus).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):
        return False
    return Path(name).exists() and (path == folder or folder in path.parents)
