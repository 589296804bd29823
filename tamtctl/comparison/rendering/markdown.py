"""A comparison's report as a page of Markdown, with its figures beside it."""

from __future__ import annotations

from collections.abc import Iterable

from tamtctl.comparison.found import Table
from tamtctl.foundations import printable


def markdown(
    title: str,
    facts: Iterable[str],
    first: Iterable[Table],
    sentences: Iterable[str],
    figures: Iterable[tuple[str, str]],
    tables: Iterable[tuple[str, Table]],
) -> str:
    """Return the page, in which the text of anybody is text.

    Args:
        title: The headline of the page.
        facts: What to know first.
        first: The tables in front.
        sentences: What was found.
        figures: Caption and file.
        tables: The other tables, each under a headline.
    """
    text = printable.markdown
    parts = [f"# {text(title)}", *map(text, facts), *map(_pipes, first)]
    parts.append("\n".join(f"- {text(sentence)}" for sentence in sentences))
    parts += [f"![{text(c)}]({file})\n\n{text(c)}" for c, file in figures]
    parts += [f"## {text(headline)}\n\n{_pipes(table)}" for headline, table in tables]
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipes(table: Table) -> str:
    text = printable.markdown
    return printable.markdown_table(map(text, table.heading), (map(text, r) for r in table.rows))
