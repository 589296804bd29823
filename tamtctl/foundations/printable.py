"""Making untrusted text safe to show: one function for each kind of output.

Names of tickets, tensors and files, values of metadata, and messages of libraries that quote them
may contain anything: escape sequences, characters that reverse the line or have no width, markup.
All code that shows text calls one of these, wherever the text came from.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

LONGEST_LINE, LONGEST_CELL = 4000, 300  # most characters that are shown

# Characters that begin markup; an underscore between letters or digits does not.
_MARKDOWN = re.compile(r"[\\`*\[\]|#~!]|(?<![^\W_])_|_(?![^\W_])")
# Characters that are commands in LaTeX, and some that its usual fonts and encodings lack.
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"{\char34}",
    "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": r"\textendash{}", "—": r"\textemdash{}",
    "…": r"\dots{}", "→": r"$\to$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$",
    "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}", "’": r"\textquoteright{}",
}  # fmt: skip
# Letters beyond ASCII that LaTeX's usual fonts have: those below U+0180, except these.
_LATEX_LETTERS = set(map(chr, range(0xA1, 0x180))) - set("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def line(text: str, longest: int | None = LONGEST_LINE) -> str:
    """Return text as one line without control of the terminal: unprintable characters are escaped.

    The middle of a text longer than ``longest`` is left out; None: never.
    """
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - longest // 3 - 1]}…{text[-(longest // 3) :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cell(text: str) -> str:
    """Return text for a cell of a table, or for a name within a line: without runs of spaces."""
    return re.sub("  +", " ", line(text, LONGEST_CELL))


def first(names: Sequence[str], most: int = 8) -> str:
    """Return the first names of many, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def html_text(text: str) -> str:
    """Return text for an HTML page, also for a quoted attribute."""
    return html.escape(line(text))


def markdown(text: str) -> str:
    """Return text for Markdown, with markup escaped."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: str) -> str:
    """Return text as inline code of Markdown, also within a table; blank text becomes empty."""
    shown = cell(text).replace("`", "ˋ").replace("|", "¦")
    return f"`{shown}`" if shown.strip() else ""


def markdown_table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of Markdown.

    Args:
        heading: The cells of the first line, made by `markdown` or `markdown_code`.
        rows: The cells of each further line, made in the same way.
    """
    first, *others = [list(heading), *map(list, rows)]
    lines = [first, ["---"] * len(first), *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex(text: str) -> str:
    """Return text for LaTeX, in a cell or a paragraph: no command, comment, ligature or option.

    pdflatex stops at letters that its fonts lack, so they become numbers such as <U+6F22>.
    """
    plain = "".join(map(_latex_sign, line(text)))
    return re.sub(r"(?<=[-,])(?=[-,])", "{}", plain)


def _latex_sign(sign: str) -> str:
    if sign in _LATEX:
        return _LATEX[sign]
    is_known = sign.isascii() or sign in _LATEX_LETTERS
    return sign if is_known else f"\\textless{{}}U+{ord(sign):04X}\\textgreater{{}}"


def css_text(text: str) -> str:
    """Return text as a quoted string of CSS, also within a page of HTML."""
    return '"' + "".join(c if c.isalnum() else f"\\{ord(c):x} " for c in line(text)) + '"'


def csv_cell(text: str) -> str:
    """Return text for a CSV file that no spreadsheet takes for a formula."""
    shown = line(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
