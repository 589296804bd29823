"""What a notebook and a prompt show of a result: what the command line prints of it, no more.

The command line's function for each kind of result writes on a `Page`; here are two such pages: a
text of at most one screen, and HTML.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from tamtctl.cli.console import Page, PlainTable
from tamtctl.foundations import printable

_WIDTH, _HEIGHT = 100, 24  # characters and lines of the text
_ROWS = 20  # shown at most of a labelled text

# Class → module and function that show it.
SHOWS = {
    "BenchResult": ("cli.views.speed", "show_bench"),
    "CacheContents": ("cli.views.caching", "show_cache"),
    "CombineResult": ("cli.views.combining", "show_combination"),
    "Comparison": ("cli.views.comparison", "show_comparison"),
    "Evaluation": ("cli.views.tasks", "show_evaluation"),
    "ExportResult": ("cli.views.exchange", "show_export"),
    "FinetuneResult": ("cli.views.tasks", "show_finetune_result"),
    "ImportResult": ("cli.views.exchange", "show_import"),
    "Inspection": ("cli.views.inspection", "show_inspection"),
    "Labelled": ("cli.views.tasks", "show_labelled"),
    "Listing": ("cli.views.listing", "show_listing"),
    "OnnxExport": ("cli.views.exchange", "show_onnx_export"),
    "PullResult": ("cli.views.exchange", "show_pull"),
    "PushResult": ("cli.views.exchange", "show_push"),
    "RecoverPlan": ("cli.views.recovery", "show_recover_plan"),
    "RecoverResult": ("cli.views.recovery", "show_recovery"),
    "SearchPlan": ("cli.views.search", "show_plan"),
    "SearchResult": ("cli.views.search", "show_search_result"),
    "SemiStructured": ("cli.views.exchange", "show_semi_structured"),
    "Ticket": ("cli.views.inspection", "show_ticket"),
    "TicketComparison": ("cli.views.similarity", "show_comparison"),
    "TicketMetadata": ("cli.views.inspection", "show_ticket"),
    "Unpacked": ("cli.views.exchange", "show_unpacked"),
}

# Views that draw with characters, and so need a font of fixed width.
_DRAWN = ("cli.views.inspection", "cli.views.listing", "cli.views.similarity")


def as_text(result: object) -> str:
    """Return a result as text of at most one screen."""
    page = _TextPage()
    _show_on(page, result)
    return page.text(type(result).__name__)


def as_html(result: object) -> str:
    """Return a result as the HTML that a notebook shows."""
    if view_of(type(result))[0] in _DRAWN:
        drawn = _TextPage()
        _show_on(drawn, result)
        lines = "\n".join(map(printable.html_text, drawn.lines))
        # Columns and bars line up; some themes of notebooks set <pre> in a proportional font.
        return f'<pre style="font-family:monospace">{lines}</pre>'
    page = _HtmlPage()
    _show_on(page, result)
    return "<div>\n" + "\n".join(page.parts) + "\n</div>"


def view_of(kind: type) -> tuple[str, str]:
    """Return the module and the function that show a class or, if it has none, its base."""
    return next(SHOWS[base.__name__] for base in kind.__mro__ if base.__name__ in SHOWS)


def _show_on(page: Page, result: object) -> None:
    module, function = view_of(type(result))
    getattr(importlib.import_module(f"tamtctl.{module}"), function)(page, result)


class _TextPage(Page):
    """A page that becomes a text of one screen."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        super().__init__(self._text)
        # Jupyter sets FORCE_COLOR, and a text that is kept would hold the colours as codes.
        self.console = Console(
            file=self._text, width=_WIDTH, color_system=None, force_terminal=False,
            highlight=False, force_jupyter=False,
        )  # fmt: skip
        self.is_wrapped = True

    def hint(self, text: str) -> None:
        """Show nothing: a hint at what to type in a shell is no use here."""

    @property
    def lines(self) -> list[str]:
        """What was shown."""
        return self._text.getvalue().strip().splitlines()

    def text(self, heading: str) -> str:
        """Return the heading and what was shown, cut to a screen."""
        lines = [heading, *self.lines]
        lines = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…" for line in lines]
        if len(lines) > _HEIGHT:
            left_out = len(lines) - _HEIGHT + 1
            lines = [*lines[: _HEIGHT - 1], f"… {left_out} more lines"]
        return "\n".join(line.rstrip() for line in lines)


class _HtmlPage(Page):
    """A page that becomes HTML; names and texts in it are escaped."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.parts: list[str] = []
        self._rows = 0

    def line(self, text: str = "") -> None:
        """Show a line."""
        if text:
            self.parts.append(f"<div>{printable.html_text(text)}</div>")

    def hint(self, text: str) -> None:
        """Show nothing: a hint at what to type in a shell is no use here."""

    def row(self, *cells: str) -> None:
        """Show a row of cells; rows after the first 20 are only counted."""
        self._rows += 1
        if self._rows <= _ROWS:
            self.line(" | ".join(cells))
        elif self._rows == _ROWS + 1:
            self.line("…")

    def facts(self, facts: Mapping[str, str]) -> None:
        """Show names and values in two columns."""
        rows = [
            f'<tr><th style="text-align:left">{printable.html_text(name)}</th>'
            f'<td style="text-align:left">{printable.html_text(value)}</td></tr>'
            for name, value in facts.items()
        ]
        self.parts.append("<table>" + "".join(rows) + "</table>")

    def table(self, table: PlainTable) -> None:
        """Show a table."""
        columns = table.columns
        aligned = [f' style="text-align:{column.justify}"' for column in columns]
        titles = zip(aligned, (_plain(column.header) for column in columns), strict=True)
        head = "".join(f"<th{align}>{title}</th>" for align, title in titles)
        rows = zip(*(map(_plain, column.cells) for column in columns), strict=True)
        body = (
            "".join(f"<td{align}>{cell}</td>" for align, cell in zip(aligned, row, strict=True))
            for row in rows
        )
        body_rows = "".join(f"<tr>{row}</tr>" for row in body)
        self.parts.append(
            f"<table><thead><tr>{head}</tr></thead><tbody>{body_rows}</tbody></table>"
        )


def _plain(shown: object) -> str:
    return printable.html_text(shown.plain if isinstance(shown, Text) else str(shown))
