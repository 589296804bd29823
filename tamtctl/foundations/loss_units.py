"""The text that a held-out loss was taken on: said wherever a loss is shown.

Imports nothing heavy, so that the command line can say it without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

# Fewer sequences do not tell how sure a mean is: no standard error and no claim is made of them.
MIN_SEQUENCES = 8


@dataclass(frozen=True)
class ScoredText:
    """The text that a loss was taken on.

    Attributes:
        name: What the user called it, and which part of it.
        sequences: So many were scored,
        of: of so many that the text holds.
        sequence_length: Tokens of each, special tokens included; at most where they are rows.
        rows: What each of them is, such as ``lines``; None: all are equally long.
    """

    name: str
    sequences: int
    of: int
    sequence_length: int
    rows: str | None = None

    def __str__(self) -> str:
        some = f"{self.sequences:,}"
        if self.sequences < self.of:
            some += f" of {self.of:,}"
        return f"{some} {extent(self.of, self.sequence_length, self.rows)} of {self.name}"

    @property
    def too_few(self) -> str | None:
        """The line that says that there are too few sequences to tell, if there are."""
        if self.sequences >= MIN_SEQUENCES:
            return None
        return (
            f"too few held-out sequences ({self.sequences}) to tell: at least {MIN_SEQUENCES} are "
            "needed for a standard error"
        )


@dataclass(frozen=True)
class SequenceFacts:
    """A text as it is cut into sequences.

    Attributes:
        rows: What each of them is, such as ``blocks`` or ``lines``.
        count: How many there are.
        mean_length: Tokens of one on average, special tokens included.
        longest: Tokens of one at most.
        unknown: Share of the tokens that the model does not know.
        cut: Share of the tokens that are behind the end of a row that was too long.
    """

    rows: str
    count: int
    mean_length: float
    longest: int
    unknown: float
    cut: float

    def __str__(self) -> str:
        noun = _noun(self.rows, self.count)
        parts = [f"{self.count:,} {noun} of {self.mean_length:,.1f} tokens on average"]
        if self.mean_length == self.longest:
            parts = [f"{self.count:,} {noun} of {self.longest:,} tokens"]
        parts.append(f"{_percent(self.unknown)} unknown")
        if self.cut:
            parts.append(f"{_percent(self.cut)} cut off at {self.longest:,}")
        return ", ".join(parts)


def extent(count: int, length: int, rows: str | None) -> str:
    """Return what so many sequences are: what follows their number.

    Args:
        count: How many.
        length: Tokens of each; at most where they are rows.
        rows: What each of them is; None: all are equally long.
    """
    if rows is None:
        return f"sequence{'' if count == 1 else 's'} × {length} tokens"
    return f"{_noun(rows, count)} of at most {length} tokens"


def _noun(rows: str, count: int) -> str:
    return rows.removesuffix("s") if count == 1 else rows


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f} %"
