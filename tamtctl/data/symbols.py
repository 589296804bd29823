"""Noticing text whose lines are sequences of characters or atoms, as molecules and proteins are.

Such a line is a whole of its own: nothing in it tells of the next one, and a model that was
pre-trained on single ones reads several in a row as something that it has never seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.data.text.documents import Document

_MOST_SYMBOLS = 1024  # entries of a vocabulary of characters, amino acids or atoms
_FEWEST_TOKENS = 8  # of a line that is a sequence
_WORDS, _LONGEST = 1.5, 3.0  # in a line without spaces; characters of a symbol: C, [C@@H]
_TOKENS, _LONGEST_APART = 1.1, 1.5  # of a word where symbols stand between spaces; as above


@dataclass
class Symbols:
    """Looks at the lines of a text, if a tokenizer's vocabulary is one of symbols.

    Attributes:
        entries: The size of the vocabulary.
        lines: How many lines were looked at,
        words: their parts between spaces,
        characters: and the characters of these.
    """

    entries: int
    lines: int = 0
    words: int = 0
    characters: int = 0

    def look_at(self, document: Document) -> None:
        """Look at the lines of a document."""
        if self.entries > _MOST_SYMBOLS:
            return
        for line in document.lines:
            words = line.split()
            self.lines += 1
            self.words += len(words)
            self.characters += sum(map(len, words))

    def are_sequences(self, tokens: int) -> bool:
        """Tell whether the lines are sequences of symbols.

        Args:
            tokens: How many tokens the lines have.
        """
        if self.lines < 2 or tokens < _FEWEST_TOKENS * self.lines:
            return False
        length = self.characters / tokens  # of a symbol
        is_written_together = self.words <= _WORDS * self.lines and length <= _LONGEST
        is_written_apart = tokens <= _TOKENS * self.words and length <= _LONGEST_APART
        return is_written_together or is_written_apart
