"""Recognising text whose lines are sequences of symbols, such as molecules and proteins.

Such lines are independent of each other. A model that was pre-trained on single lines has never
seen several in one sequence, so that blocks do not suit it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.data.text.documents import Document

_MOST_SYMBOLS = 1024  # largest vocabulary of characters, amino acids or atoms
_FEWEST_TOKENS = 8  # fewest tokens, on average, of a line that is a sequence
_WORDS, _LONGEST = 1.5, 3.0  # without spaces: words of a line, characters of a symbol ([C@@H])
_TOKENS, _LONGEST_APART = 1.1, 1.5  # with spaces: tokens of a word, characters of a symbol


@dataclass
class Symbols:
    """Counts lines, words and characters of a text, if the vocabulary may be one of symbols.

    Attributes:
        entries: The size of the vocabulary.
        lines: Number of lines.
        words: Number of their parts between spaces.
        characters: Number of characters in these parts.
    """

    entries: int
    lines: int = 0
    words: int = 0
    characters: int = 0

    def look_at(self, document: Document) -> None:
        """Count the lines of a document."""
        if self.entries > _MOST_SYMBOLS:
            return
        for line in document.lines:
            words = line.split()
            self.lines += 1
            self.words += len(words)
            self.characters += sum(map(len, words))

    def are_sequences(self, tokens: int) -> bool:
        """Return whether the lines are sequences of symbols.

        Args:
            tokens: Number of tokens in all lines.
        """
        if self.lines < 2 or tokens < _FEWEST_TOKENS * self.lines:
            return False
        length = self.characters / tokens  # of a symbol
        is_written_together = self.words <= _WORDS * self.lines and length <= _LONGEST
        is_written_apart = tokens <= _TOKENS * self.words and length <= _LONGEST_APART
        return is_written_together or is_written_apart
