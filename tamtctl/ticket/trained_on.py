"""Which texts a ticket was trained on, so that it is not measured on them by mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tamtctl.data.corpus import digests_of
from tamtctl.data.text.documents import PYTHON_DOCS, Source
from tamtctl.foundations.public_names import texts_of
from tamtctl.ticket.ticket import Ticket

_SAME, _NAMESAKE = "the ticket was trained on the rest", "the ticket was trained on a text so named"
_OTHER = "the ticket was trained on a text so named, of other content"
_ALL = "the ticket was trained on this very text"


@dataclass
class TrainedOn:
    """Which parts of texts a ticket can be measured on, by what it records of its search.

    Attributes:
        ticket: The ticket; None if a model is measured.
        only_tenth: Whether only the held-out part of each text is to be measured on.
        remark: A remark on the texts, set by `choose`; None if there is none.
    """

    ticket: Ticket | None
    only_tenth: bool = False
    remark: str | None = None

    def choose(self, sources: Sequence[Source]) -> list[bool]:
        """Return for each text whether all of it can be measured on, or only the held-out part.

        A ticket has not seen the tenth that its search held out. A search with held-out text apart
        was trained on all of its corpus.
        """
        seen = [self._seen(source, sources) for source in sources]
        has_held_out = self.ticket is not None and bool(texts_of(self.ticket.search, "held_out"))
        found = [why for why in seen if why]
        if found:
            self.remark = _ALL if has_held_out else found[0]
            if len(found) < len(sources):
                self.remark += f", in {len(found)} of {len(sources)} files"
        return [
            not (
                self.only_tenth
                or source.name == PYTHON_DOCS
                or source.held_out is not None
                or (why is not None and not has_held_out)
            )
            for source, why in zip(sources, seen, strict=True)
        ]

    def _seen(self, source: Source, sources: Sequence[Source]) -> str | None:
        """Return why a text counts as trained on; None if it does not."""
        if self.ticket is None:
            return None
        digests = self.ticket.metrics.get("trained_on")
        if isinstance(digests, list | tuple):
            of_all = digests_of(sources)
            is_one_of_all = len(of_all) < len(sources) and of_all[0] in digests
            if source.digest in digests or is_one_of_all:
                return _SAME
        names = self.ticket.texts("corpus")
        if source.name == PYTHON_DOCS and source.name in names:
            return _SAME
        if digests is None:  # an old version, which recorded names only
            names += texts_of(self.ticket.search, "corpus")
            if Path(source.name).name in names:
                return _NAMESAKE
        if not any(_is_below(source.name, name) for name in names):
            return None
        return _NAMESAKE if digests is None else _OTHER


def _is_below(name: str, corpus: str) -> bool:
    """Return whether a text is the corpus of this name, or a file in the folder of this name."""
    if name == corpus:
        return True
    try:
        path, folder = Path(name).expanduser().resolve(), Path(corpus).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):
        return False
    return Path(name).exists() and (path == folder or folder in path.parents)
