"""At what size a model is run where its time is taken; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Size:
    """How a model is run: texts at once, tokens of each, CPU threads."""

    threads: int
    batch: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens of a run."""
        return self.batch * self.length

    def __str__(self) -> str:
        """Return it in a few words."""
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        return f"{self.batch} × {self.length}, {threads}"
