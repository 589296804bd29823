"""Descriptions of the text that a held-out loss was taken on, shown beside every loss.

Imports nothing heavy, so that the command line can show it without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

# With fewer sequences there is no standard error, interval or winner.
MIN_SEQUENCES = 8


@dataclass(frozen=True)
class MeasuredText:
    """The text that a loss was taken on.

    Attributes:
        name: The user's name for it, and the part of it.
        sequences: Number of sequences that were scored.
        of: Number of sequences in the whole text.
        sequence_length: Tokens of each sequence, special tokens included; of rows, the most.
        rows: What a sequence is, such as ``lines``; None: packed blocks of equal length.
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

    def too_few(self, group_size: int) -> str | None:
        """Return a line that says that there are too few sequences for a standard error; else None.

        Args:
            group_size: How many sequences are compared with each other; 1: none are.
        """
        needed = (MIN_SEQUENCES - 1) * group_size + 1
        if self.sequences >= needed:
            return None
        return (
            f"too few held-out sequences ({self.sequences}) to tell: at least {needed} are "
            "needed for a standard error"
        )

    def why_unsure(self, group_size: int, error: float | None) -> str | None:
        """Return a line that says why a loss has no standard error; None if it has one.

        Args:
            group_size: As in `too_few`.
            error: The standard error of the loss.
        """
        if error is not None:
            return None
        return self.too_few(group_size) or (
            "too few of the held-out sequences have masked tokens to tell: at least "
            f"{MIN_SEQUENCES} are needed for a standard error"
        )


@dataclass(frozen=True)
class SequenceFacts:
    """Facts about a text that is cut into sequences.

    Attributes:
        rows: What a sequence is, such as ``blocks`` or ``lines``.
        count: Number of sequences.
        mean_length: Mean tokens of a sequence, special tokens included.
        longest: Most tokens of a sequence.
        unknown: Share of unknown tokens.
        cut: Share of tokens that are cut off rows that are too long.
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
    """Return the words that follow a number of sequences.

    Args:
        count: Number of sequences.
        length: Tokens of each sequence; of rows, the most.
        rows: What a sequence is; None: packed blocks of equal length.
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
