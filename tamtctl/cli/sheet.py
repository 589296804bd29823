"""Lines of a command's output, wrapped between words where a screen is narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from tamtctl.cli.layout import Column, hanging, table
from tamtctl.cli.page import Page
from tamtctl.foundations import printable

_WIDEST = 100  # characters of a line of words; longer ones are hard to read
_ENDLESS = 10**6


class Sheet:
    """A sheet of a command's output.

    Args:
        output: Where it goes.
        indent: Column of what stands behind a label.
    """

    def __init__(self, output: Page, indent: int) -> None:
        self._out, self._indent = output, indent
        self.width = output.console.width
        # What goes to a file or another program has whole lines.
        self._words = min(self.width, _WIDEST) if output.is_wrapped else _ENDLESS

    def bold(self, text: str) -> None:
        """Show a line in bold."""
        shown = Text(printable.line(text), style="bold")
        self._out.console.print(shown, soft_wrap=True)

    def section(self, heading: str, words: str = "") -> None:
        """Begin a part of the sheet, with what there is to know of it."""
        self._out.line()
        self.bold(heading)
        if words:
            self.words(words)

    def words(self, text: str) -> None:
        """Show a text in lines that are not too long to read."""
        self.lines(hanging("", printable.line(text), 0, self._words))

    def lines(self, lines: Sequence[str]) -> None:
        """Show lines as they are."""
        for line in lines:
            self._out.line(line)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Show labels in bold, and behind each what it says."""
        for label, value in facts.items():
            self.fact(label, value)

    def fact(self, label: str, value: str) -> None:
        """Show a label in bold, and behind it what it says."""
        first, *rest = hanging(label, printable.line(value), self._indent, self._words)
        self._labelled(label, first)
        self.lines(rest)

    def commands(self, label: str, commands: Sequence[str]) -> None:
        """Hint at what to type, one command a line, so that it can be copied."""
        for number, command in enumerate(commands):
            self._out.hint(f"{label if number == 0 else '':<{self._indent}}{command}")

    def _labelled(self, label: str, line: str) -> None:
        shown = Text(printable.line(line))
        shown.stylize("bold", 0, len(label))
        self._out.console.print(shown, soft_wrap=True)

    def table(self, columns: Sequence[Column]) -> None:
        """Show a table, its heading in bold."""
        heading, *lines = table(columns, self.width)
        self.bold(heading)
        self.lines(lines)
