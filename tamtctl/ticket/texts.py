"""The texts of a ticket's search, and their held-out parts.

The record may be from a stranger: what a search could not have written is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamtctl.data.units import BLOCKS, rows_of
from tamtctl.foundations.public_names import public, texts_of
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.ticket import Ticket

_SHORTEST = 8  # tokens of a sequence, at least, in a search


@dataclass(frozen=True)
class TextSource:
    """The source of held-out text.

    Attributes:
        corpus: The corpus as in a search; a stable tenth of it is held out.
        held_out: Held-out text apart from the corpus; empty if there is none.
        text_column: Column of the text.
        sequence_length: Tokens per sequence; None if it is not stated.
        rows: The unit of text, a name in `tamtctl.data.units.UNITS`.
    """

    corpus: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    text_column: str | None = None
    sequence_length: int | None = None
    rows: str = BLOCKS

    @classmethod
    def of(cls, ticket: Ticket) -> TextSource:
        """Return the text of a ticket's search; the corpus is empty if the ticket names none."""
        column = ticket.search.get("text_column")
        places = {**ticket.search, **ticket.places.texts}  # with local places of texts
        return cls(
            corpus=texts_of(places, "corpus"),
            held_out=texts_of(places, "held_out"),
            text_column=column if isinstance(column, str) else None,
            sequence_length=sequence_length_of(ticket),
            rows=rows_of(ticket.search),
        )

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the files or data sets that are measured on."""
        return self.held_out or self.corpus

    def published(self, note: str) -> str:
        """Return a note on the text with its public name in place of a path."""
        for path in sorted({*self.corpus, *self.held_out}, key=len, reverse=True):
            note = note.replace(path, public(path))
        return note


def sequence_length_of(ticket: TicketMetadata) -> int | None:
    """Return the tokens per sequence of a ticket's search, None if it does not state them."""
    length = ticket.search.get("sequence_length")
    return length if type(length) is int and length >= _SHORTEST else None


def labels_of(texts: Sequence[TextSource]) -> dict[TextSource, str]:
    """Return text → label in tables: its files, and what sets it apart from texts of like files."""
    names = {text: " ".join(map(public, text.measured)) for text in texts}
    labels: dict[TextSource, str] = {}
    unnumbered: list[str] = []
    for text, name in names.items():
        others = [other for other in texts if names[other] == name and other != text]
        more = []
        if any(other.sequence_length != text.sequence_length for other in others):
            more.append(f"{text.sequence_length} tokens")
        if any(other.rows != text.rows for other in others):
            more.append(text.rows)
        if any(other.text_column != text.text_column for other in others):
            more.append(f"column {text.text_column or 'of the text'}")
        if any(bool(other.held_out) != bool(text.held_out) for other in others):
            more.append("all of it" if text.held_out else "its held-out tenth")
        label = name + (f" ({', '.join(more)})" if more else "")
        alike = sum(other == label for other in unnumbered)
        unnumbered.append(label)
        labels[text] = label + (f" no. {alike + 1}" if alike else "")
    return labels


def trained_on(text: TextSource, ticket: TextSource) -> bool:
    """Return whether a ticket may have been trained on a measured text, by names of files.

    The tenth of a corpus that a search holds out is the same everywhere, so it is safe. A text is
    not if it is the whole of a file of the ticket's corpus, or if the ticket's search had held-out
    text apart and so trained on all of its corpus.
    """
    is_whole = bool(text.held_out) or bool(ticket.held_out)
    return is_whole and bool(set(text.measured) & set(ticket.corpus))
