"""A comparison's report as a page of HTML that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from tamtctl.comparison.found import Table
from tamtctl.foundations import printable

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --rule: #d0d7de; --soft: #59636e }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --rule: #30363d; --soft: #9198a1 }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { text-align: right; padding: .3rem .8rem; border-bottom: 1px solid var(--rule) }
th { border-bottom: 2px solid var(--rule) }
.wide { overflow-x: auto }
.words { text-align: left }
figure { margin: 2rem 0; break-inside: avoid }
figure img { width: 100%; height: auto }
figcaption, .facts { color: var(--soft); font-size: .9rem }
tr { break-inside: avoid }
@media print { body { max-width: none; margin: 0; font-size: 10pt } details > * { display: block } }
"""


def page(
    title: str,
    facts: Iterable[str],
    first: Iterable[Table],
    sentences: Iterable[str],
    figures: Iterable[tuple[str, bytes, bytes]],
    tables: Iterable[tuple[str, Table]],
) -> str:
    """Return the page, in which the text of anybody is text.

    Args:
        title: The headline of the page.
        facts: What to know first.
        first: The tables in front.
        sentences: What was found.
        figures: Caption, and SVG for light and for dark screens.
        tables: The other tables, each under a headline.
    """
    text = printable.html_text
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{text(title)}</title>"
        "<meta name='viewport' content='width=device-width'>"
        f"<style>{_STYLE}</style><h1>{text(title)}</h1>"
        + "".join(f"<p class='facts'>{text(fact)}</p>" for fact in facts)
        + "".join(map(_rows, first))
        + f"<ul>{''.join(f'<li>{text(sentence)}</li>' for sentence in sentences)}</ul>"
        + "".join(_figure(*one) for one in figures)
        + "".join(f"<h2>{text(headline)}</h2>{_rows(table)}" for headline, table in tables)
        + "</html>\n"
    )


def _rows(table: Table) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=words' if i < table.words else ''}>{printable.html_text(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    return f"<div class='wide'><table><tr>{line(table.heading, 'th')}</tr>{body}</table></div>"


def _figure(caption: str, light: bytes, dark: bytes) -> str:
    """Return a figure for light and for dark screens; paper is always light."""
    text = printable.html_text(caption)
    return (
        "<figure><picture><source media='screen and (prefers-color-scheme: dark)' "
        f"srcset='{_data_url(dark)}'><img src='{_data_url(light)}' alt='{text}'></picture>"
        f"<figcaption>{text}</figcaption></figure>"
    )


def _data_url(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
