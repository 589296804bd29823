"""The texts that a ticket was trained on, as its search names them, and their held-out parts.

The record is a stranger's: what is not as a search writes it counts as not said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamtctl.data.units import BLOCKS, rows_of
from tamtctl.foundations.public_names import public, texts_of
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.ticket import Ticket

_SHORTEST = 8  # tokens of a sequence that a search takes


@dataclass(frozen=True)
class TextSource:
    """Where held-out text comes from.

    Attributes:
        corpus: As in a search; its stable tenth is held out.
        held_out: Held-out text of its own.
        text_column: Column of the text.
        sequence_length: Tokens per sequence; None if not said.
        rows: What the text is cut into, a name in `tamtctl.data.units.UNITS`.
    """

    corpus: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    text_column: str | None = None
    sequence_length: int | None = None
    rows: str = BLOCKS

    @classmethod
    def of(cls, ticket: Ticket) -> TextSource:
        """Return the text of a ticket's search; without a corpus if the ticket does not say."""
        column = ticket.search.get("text_column")
        places = {**ticket.search, **ticket.places.texts}  # where they are on this machine
        return cls(
            corpus=texts_of(places, "corpus"),
            held_out=texts_of(places, "held_out"),
            text_column=column if isinstance(column, str) else None,
            sequence_length=sequence_length_of(ticket),
            rows=rows_of(ticket.search),
        )

    @property
    def measured(self) -> tuple[str, ...]:
        """What is measured on, as it was asked for."""
        return self.held_out or self.corpus


def sequence_length_of(ticket: TicketMetadata) -> int | None:
    """Return the tokens per sequence that a ticket was trained on, None if it does not say."""
    length = ticket.search.get("sequence_length")
    return length if type(length) is int and length >= _SHORTEST else None


def labels_of(texts: Sequence[TextSource]) -> dict[TextSource, str]:
    """Return what a table calls each text: by its files, and by what else tells two apart."""
    names = {text: " ".join(map(public, text.measured)) for text in texts}
    labels: dict[TextSource, str] = {}
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
        alike = sum(other.startswith(label) for other in labels.values())
        labels[text] = label + (f" no. {alike + 1}" if alike else "")
    return labels


def trained_on(text: TextSource, ticket: TextSource) -> bool:
    """Whether a ticket may have been trained on what is measured on, by the names of the files.

    What a search holds out by itself is the same tenth of a corpus everywhere. That is of no help
    to one ticket where the text is the whole of a file, or where the ticket's search had held-out
    text of its own and trained on all of its corpus.
    """
    is_whole = bool(text.held_out) or bool(ticket.held_out)
    return is_whole and bool(set(text.measured) & set(ticket.corpus))
