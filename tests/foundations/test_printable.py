"""Whatever text a stranger brings: what is shown of it is one line, and only text."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tamtctl.cli.console import Output, PlainTable
from tamtctl.foundations import printable

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "a\rsafe",
    "a\nmask ok",
    "\u202eelif\u202c",
    "\u2066x\u2069\u200b\ufeff",
    "\x9b31m",
    "\ud800",
    "[red]x[/red]",
    "[link=https://evil.example]x[/link]",
    "<script>alert(1)</script>",
    "![x](https://evil.example/pixel.png)",
    "a|b",
    "`code` *bold* _it_ ~~s~~ # h",
    "&lt;b&gt;",
    "<!-- end -->",
    "=HYPERLINK(1)",
    "@SUM(1)",
    "$\\frac$",
    "x" * 9_000,
)
LATEX_SIGNS = "\\{}$&#%_^~<>|\"'`[]*±−×–—…→≤≥·“”’"
anything = st.one_of(st.text(), st.sampled_from(HOSTILE), st.text().map("".join(HOSTILE).__add__))


class Tags(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


@given(anything)
def test_a_line_is_printable_short_and_says_the_same_if_it_was(text: str) -> None:
    shown = printable.line(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * printable.LONGEST_LINE
    if text.isprintable() and len(text) <= printable.LONGEST_LINE:
        assert shown == text
    assert printable.cell(text).isprintable()
    assert "  " not in printable.cell(text)


@given(anything)
def test_html_holds_text_and_nothing_else(text: str) -> None:
    page = parsed(f"<p title='{printable.html_text(text)}'>{printable.html_text(text)}</p>")
    assert page.tags == ["p"]
    assert page.text == printable.line(text)


@given(anything)
@example("\\|")
@example("__0__")
def test_markdown_holds_text_and_nothing_else(text: str) -> None:
    renderer = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    row = f"x {printable.markdown(text)} | {printable.markdown_code(text)}"
    page = parsed(renderer.render(f"| a | b |\n| --- | --- |\n| {row} |\n\nend {row}\n"))
    assert set(page.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "p", "code"}
    assert page.tags.count("td") == 2
    assert page.tags.count("code") == (2 if printable.cell(text).strip() else 0)


@given(anything)
def test_a_csv_cell_is_no_formula_and_one_cell(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([printable.csv_cell(text), "b"])
    ((first, second),) = csv.reader(io.StringIO(file.getvalue()))
    assert second == "b"
    assert not first.startswith(("=", "+", "-", "@", "\t", "\r"))


@given(anything)
@example("--")
@example("[1em]*")
def test_latex_holds_text_and_nothing_else(text: str) -> None:
    written = printable.latex(text)
    commands = set(re.findall(r"\\(?:[a-z]+|.)", written))
    assert commands <= set(re.findall(r"\\(?:[a-z]+|.)", printable.latex("".join(LATEX_SIGNS))))
    plain = re.sub(r"\\[{}$&#%_]|\{\}|\{\[\}|\{\]\}|\{\*\}|\{\\char34\}|\$[^$]*\$", "", written)
    assert not set(plain) & set("{}$&#%_^~[]*<>|")
    assert "--" not in written


@given(anything)
def test_a_text_of_css_ends_where_it_should(text: str) -> None:
    written = printable.css_text(text)
    assert written[0] == written[-1] == '"'
    assert not set(written[1:-1]) & set("\"'<>&;{}\n")
    shown = re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), written[1:-1])
    assert shown == printable.line(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_terminal_gets_text_and_no_commands(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output()
    output.line(text)
    output.facts({text: text})
    output.dimmed(text)
    output.row(text, "b")
    table = PlainTable(text)
    table.add_column(text)
    table.add_row(text, text)
    output.table(table)
    Output(quiet=True).result({}, text.replace("\n", ""))
    shown = capsys.readouterr().out
    assert all(line.replace("\t", "").isprintable() for line in shown.split("\n"))
    if text.isprintable() and len(text) < 100:
        assert shown.count(text) >= 7  # markup is shown as it is
