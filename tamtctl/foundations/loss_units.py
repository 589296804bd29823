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
        sequence_length: Tokens of each, special tokens included.
    """

    name: str
    sequences: int
    of: int
    sequence_length: int

    def __str__(self) -> str:
        some = f"{self.sequences:,}"
        if self.sequences < self.of:
            some += f" of {self.of:,}"
        noun = "sequence" if self.of == 1 else "sequences"
        return f"{some} {noun} × {self.sequence_length} tokens of {self.name}"

    @property
    def too_few(self) -> str | None:
        """The line that says that there are too few sequences to tell, if there are."""
        if self.sequences >= MIN_SEQUENCES:
            return None
        return (
            f"too few held-out sequences ({self.sequences}) to tell: at least {MIN_SEQUENCES} are "
            "needed for a standard error"
        )
