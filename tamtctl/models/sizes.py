"""The size of the runs that time a model; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.foundations.counts import count


@dataclass(frozen=True, order=True)
class Size:
    """How a model is run: CPU threads, texts in a batch, tokens of each text."""

    threads: int
    batch: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.batch * self.length

    def __str__(self) -> str:
        """Return the size in a few words."""
        return f"{self.batch} × {self.length}, {count(self.threads, 'thread')}"
