"""What a person or a program sees: lines, tables and JSON, on a terminal, in a file or a pipe."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tamtctl.foundations import printable
from tamtctl.foundations.signals import answer_by

_PLAIN_WIDTH = 250  # characters, where there is no terminal, so that no table is folded


class Page:
    """A place that lines and tables are written to: a terminal, a file or a pipe.

    Attributes:
        console: The console of rich, with colours if its own stream is a terminal.
        quiet: Whether nothing is shown.
        is_wrapped: Whether long texts are broken into short lines, as for a screen.
        notes: The page for lines that are no part of the result.
    """

    notes: Page

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.is_wrapped = stream.isatty()
        width = None if self.is_wrapped else _PLAIN_WIDTH
        self.console = Console(
            file=stream, width=width, quiet=quiet, highlight=False, force_jupyter=False
        )
        self.notes = self

    def line(self, text: str = "") -> None:
        """Show a line of plain text, never wrapped, so that paths can be copied."""
        self.console.print(Text(printable.line(text)), soft_wrap=True)

    def row(self, *cells: str) -> None:
        """Show whole cells with tabs between them, for other programs."""
        if not self.quiet:  # rich would make spaces of the tabs
            self.console.file.write("\t".join(printable.line(c, None) for c in cells) + "\n")

    def dimmed(self, text: str) -> None:
        """Show a line in a faint colour: it matters only until the next one."""
        self.console.print(Text(printable.line(text), style="dim"), soft_wrap=True)

    def hint(self, text: str) -> None:
        """Say what to type next, or what happened before, where it is no part of the result."""
        self.notes.line(text)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Show names and values in two columns."""
        width = max(map(len, facts)) + 2
        for name, value in facts.items():
            label = (printable.line(name).ljust(width), "bold")
            self.console.print(Text.assemble(label, printable.line(value)), soft_wrap=True)

    def table(self, table: PlainTable) -> None:
        """Show a table."""
        self.console.print(table)


def opened(stream: TextIO | None) -> TextIO:
    """Return a stream that takes any text; if there is none, one that discards it."""
    if stream is None:
        return open(os.devnull, "w")  # noqa: PTH123, until the process ends
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")  # for letters that the encoding lacks
    return stream


class PlainTable(Table):
    """A table whose headings and cells are text, whatever they look like."""

    def add_column(self, header: RenderableType = "", *rest: Any, **options: Any) -> None:
        """Add a column with this heading; what is too wide for the screen is folded, never cut."""
        super().add_column(_plain(header), *rest, **({"overflow": "fold"} | options))

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row of cells."""
        super().add_row(*map(_plain, cells), **options)


def _plain(shown: RenderableType | None) -> RenderableType:
    return Text(printable.cell(shown)) if isinstance(shown, str) else shown or ""


class Output(Page):
    """The output of a command: results on stdout; notes and progress on stderr, in every mode.

    Args:
        as_json: Print one JSON object on stdout; the result for people goes to stderr, too.
        quiet: Print only the one line that a script wants.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        notes = Page(opened(sys.stderr), quiet=quiet)
        super().__init__(opened(sys.stderr if as_json else sys.stdout), quiet=quiet)
        self.as_json, self.notes = as_json, notes
        answer_by(notes.line if not quiet else None)

    def note(self, text: str) -> None:
        """Show a line that is no part of the result."""
        self.notes.line(text)

    def json_lines(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Print one JSON object a line, for other programs, in ASCII alone."""
        for value in values:
            print(json.dumps(_without_nan(value), allow_nan=False))  # noqa: T201

    def result(self, value: Mapping[str, Any], essence: str) -> None:
        """Print the JSON object, or in quiet mode the one line that a script wants."""
        if self.as_json:
            text = json.dumps(_without_nan(value), indent=2, allow_nan=False)
            print(text)  # noqa: T201, stdout is the interface here
        elif self.quiet:
            print("\n".join(map(printable.line, essence.split("\n"))))  # noqa: T201


def _without_nan(value: Any) -> Any:
    """Return JSON values with null for NaN and infinities, which JSON cannot express."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
