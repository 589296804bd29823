"""A comparison's report as a page of HTML that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tamtctl.comparison.found import Table
from tamtctl.foundations import printable

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --rule: #d0d7de; --soft: #59636e;
  --band: #f6f8fa }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --rule: #30363d; --soft: #9198a1; --band: #151b23 }
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }
h1 { line-height: 1.2 }
.lead { font-size: 1.1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0;
  overflow-wrap: normal }
th, td { text-align: right; padding: .3rem .8rem; border-bottom: 1px solid var(--rule);
  vertical-align: top }
th { border-bottom: 2px solid var(--rule); vertical-align: bottom }
tbody tr:nth-child(even) { background: var(--band) }
td:not(.words) { white-space: nowrap }
.wide { overflow-x: auto }
.words { text-align: left }
.told td { min-width: 8rem; overflow-wrap: anywhere }
figure { margin: 2rem 0; break-inside: avoid }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto }
figcaption, .facts { color: var(--soft); font-size: .9rem }
@media screen and (max-width: 600px) {
  body { margin: 1rem auto; padding: 0 .75rem }
  h1 { font-size: 1.5rem }
  table { font-size: .85rem }
  th, td { padding: .25rem .5rem }
  ul { padding-left: 1.2rem }
}
@media print {
  body { max-width: none; margin: 0; padding: 0; font-size: 10pt }
  h2 { break-after: avoid }
  thead { display: table-header-group }
  tr { break-inside: avoid }
  .wide { overflow: visible }
  table { font-size: 8pt }
  th, td { padding: .15rem .35rem }
  td:not(.words) { white-space: normal }
}
"""


@dataclass(frozen=True)
class Drawing:
    """A figure in all forms that pages use.

    Attributes:
        caption: What stands below it.
        file: Its file beside the page, for pages that refer to files.
        wide: SVG for a light page.
        wide_dark: The same figure for a dark page.
        narrow: SVG for a light page on a phone.
        narrow_dark: The narrow figure for a dark page.
    """

    caption: str
    file: str
    wide: bytes
    wide_dark: bytes
    narrow: bytes
    narrow_dark: bytes


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of a report, the same for every format, in the order of the page.

    Attributes:
        title: The headline.
        about: A line that says what was measured on what.
        lead: The first paragraph.
        notes: Notes on this comparison in particular.
        figures: The figures.
        first: The tables before all sentences.
        sentences: The findings, one each.
        tables: The other tables, each under a headline.
        facts: Notes on how to read the numbers.
    """

    title: str
    about: str
    lead: str
    notes: Sequence[str]
    figures: Sequence[Drawing]
    first: Sequence[Table]
    sentences: Sequence[str]
    tables: Sequence[tuple[str, Table]]
    facts: Sequence[str]


def page(report: Report) -> str:
    """Return the page, with names and texts escaped."""
    text = printable.html_text
    running = (
        f"@page {{ margin: 18mm 14mm; @top-left {{ content: {printable.css_text(report.title)}"
    )
    running += "; font-size: 8pt } @top-right { content: counter(page) ' / ' counter(pages); "
    running += "font-size: 8pt } }"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{text(report.title)}"
        "</title><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<style>{_STYLE}{running}</style></head><body><h1>{text(report.title)}</h1>"
        + _paragraphs([report.about], "facts")
        + _paragraphs([report.lead], "lead")
        + _paragraphs(report.notes, "notes")
        + "".join(map(_figure, report.figures))
        + "".join(map(_rows, report.first))
        + _list(report.sentences)
        + "".join(f"<h2>{text(headline)}</h2>{_rows(table)}" for headline, table in report.tables)
        + _paragraphs(report.facts, "facts")
        + "</body></html>\n"
    )


def _paragraphs(paragraphs: Iterable[str], kind: str) -> str:
    told = (printable.html_text(paragraph) for paragraph in paragraphs if paragraph)
    return "".join(f"<p class='{kind}'>{paragraph}</p>" for paragraph in told)


def _list(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{printable.html_text(sentence)}</li>" for sentence in sentences)
    return f"<h2>Findings</h2><ul>{items}</ul>"


def _rows(table: Table) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=words' if i < table.words else ''}>{printable.html_text(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    told = " class='told'" if table.words == len(table.heading) else ""
    return (
        f"<div class='wide'><table{told}><thead><tr>{line(table.heading, 'th')}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _figure(one: Drawing) -> str:
    """Return the HTML of a figure for every kind of screen; print gets the light, wide one."""
    text = printable.html_text(one.caption)
    dark, narrow = "(prefers-color-scheme: dark)", "(max-width: 600px)"
    sources = (
        (f"screen and {narrow} and {dark}", one.narrow_dark),
        (f"screen and {narrow}", one.narrow),
        (f"screen and {dark}", one.wide_dark),
    )
    told = "".join(f"<source media='{media}' srcset='{_data_url(svg)}'>" for media, svg in sources)
    return (
        f"<figure><picture>{told}<img src='{_data_url(one.wide)}' alt='{text}'></picture>"
        f"<figcaption>{text}</figcaption></figure>"
    )


def _data_url(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
