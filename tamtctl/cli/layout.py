"""Text set out for a screen of any width: aligned columns, hanging lines, small bars.

Nothing is cut off: a name that a table has no room for gets a line of its own. The functions
return lines without colours; `Sheet` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from tamtctl.cli.console import Page
from tamtctl.cli.wrapping import GAP, hanging, padded
from tamtctl.foundations import printable

_WIDEST = 100  # characters of a line of words; longer ones are hard to read
_ENDLESS = 10**6

_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        heading: The text above the cells.
        cells: One for each row.
        right: Whether cells are set to the right, as numbers are.
    """

    heading: str
    cells: Sequence[str]
    right: bool = False

    @property
    def width(self) -> int:
        """Width of the widest cell, in characters on a screen."""
        return max(map(cell_len, (self.heading, *self.cells)))


def table(columns: Sequence[Column], width: int) -> list[str]:
    """Return the lines of a table, the heading first; its first column may hold long names.

    A name that would not fit beside the other columns has a line of its own above them.
    """
    rest = sum(column.width + len(GAP) for column in columns[1:])
    names = columns[0]
    room = max(min(names.width, width - rest), cell_len(names.heading))
    lines = [_row([names.heading, *(c.heading for c in columns[1:])], columns, room)]
    for number, name in enumerate(names.cells):
        cells = [column.cells[number] for column in columns[1:]]
        if cell_len(name) > room:
            lines.append(name)
            name = ""
        lines.append(_row([name, *cells], columns, room))
    return lines


def fitting(columns: Sequence[Column], width: int, at_least: int) -> list[Column]:
    """Return the first columns that fit side by side, but no fewer than ``at_least``.

    A name that gets a line of its own takes no room from the other columns.
    """
    names, *others = columns
    least = sum(column.width + len(GAP) for column in others[: at_least - 1])
    room = max((n for n in map(cell_len, names.cells) if n + least <= width), default=0)
    chosen, used = [names], max(room, cell_len(names.heading))
    for column in others:
        used += column.width + len(GAP)
        if used > width and len(chosen) >= at_least:
            break
        chosen.append(column)
    return chosen


def _row(cells: Sequence[str], columns: Sequence[Column], room: int) -> str:
    widths = [room, *(column.width for column in columns[1:])]
    cells = [
        padded(cell, width, right=column.right)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    ]
    return GAP.join(cells).rstrip()


def bar(share: float, width: int) -> str:
    """Return a bar that fills this share (0 to 1) of a width, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return (_EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def beside(left: Sequence[str], right: Sequence[str], width: int) -> list[str]:
    """Put two blocks of lines side by side if they fit, else below each other."""
    room = max(map(cell_len, left), default=0) + 3
    if room + max(map(cell_len, right), default=0) > width:
        return [*left, "", *right]
    rows = max(len(left), len(right))
    blocks = [[*block, *[""] * (rows - len(block))] for block in (left, right)]
    return [f"{padded(a, room)}{b}".rstrip() for a, b in zip(*blocks, strict=True)]


class Sheet:
    """A sheet of a command's output.

    Args:
        output: Where it goes.
        indent: Column at which the text behind a label begins.
    """

    def __init__(self, output: Page, indent: int) -> None:
        self._out, self._indent = output, indent
        self.width = output.console.width
        # Lines to a file or another program are not broken.
        self._words = min(self.width, _WIDEST) if output.is_wrapped else _ENDLESS

    def bold(self, text: str) -> None:
        """Show a line in bold."""
        shown = Text(printable.line(text), style="bold")
        self._out.console.print(shown, soft_wrap=True)

    def section(self, heading: str, words: str = "") -> None:
        """Begin a part of the sheet: its heading in bold, and words behind it."""
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
        """Show labels in bold, each with its value behind it."""
        for label, value in facts.items():
            self.fact(label, value)

    def fact(self, label: str, value: str) -> None:
        """Show a label in bold with its value behind it."""
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
