"""A comparison's report as a page of Markdown, with its figures beside it."""

from __future__ import annotations

from tamtctl.comparison.found import Table
from tamtctl.comparison.rendering.page import Report
from tamtctl.foundations import printable


def markdown(report: Report) -> str:
    """Return the page, with names and texts escaped."""
    text = printable.markdown
    parts = [f"# {text(report.title)}", *map(text, (report.about, report.lead, *report.notes))]
    parts += [
        f"![{text(one.caption)}]({one.file})\n\n{text(one.caption)}" for one in report.figures
    ]
    parts += map(_pipes, report.first)
    parts.append("\n".join(f"- {text(sentence)}" for sentence in report.sentences))
    parts += [f"## {text(headline)}\n\n{_pipes(table)}" for headline, table in report.tables]
    parts += map(text, report.facts)
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipes(table: Table) -> str:
    text = printable.markdown
    return printable.markdown_table(map(text, table.heading), (map(text, r) for r in table.rows))
