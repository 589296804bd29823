"""Text of strangers made safe to show: one function for each place that text can end up in.

Names of tickets, tensors and files, values of metadata, and messages of libraries that quote them
may hold anything: escape sequences, characters that reverse the line or take no room, markup.
Whoever shows text calls one of these, whatever it is and wherever it came from.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

LONGEST_LINE, LONGEST_CELL = 4000, 300  # characters that are shown

# What begins markup; an underscore between two letters or digits does not.
_MARKDOWN = re.compile(r"[\\`*\[\]|#~!]|(?<![^\W_])_|_(?![^\W_])")
# What LaTeX takes for a command, and signs that its usual fonts and encodings lack.
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"{\char34}",
    "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": r"\textendash{}", "—": r"\textemdash{}",
    "…": r"\dots{}", "→": r"$\to$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$",
    "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}", "’": r"\textquoteright{}",
}  # fmt: skip
# Letters beyond ASCII that its usual fonts have are those below U+0180, without these.
_LATEX_LETTERS = set(map(chr, range(0xA1, 0x180))) - set("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def line(text: str, longest: int | None = LONGEST_LINE) -> str:
    """Return text as one line that commands no terminal: what does not print is escaped.

    Of a longer text the middle is left out; with None, nothing ever is.
    """
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - longest // 3 - 1]}…{text[-(longest // 3) :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cell(text: str) -> str:
    """Return text for a cell of a table, or for a name within a line: without runs of spaces."""
    return re.sub("  +", " ", line(text, LONGEST_CELL))


def html_text(text: str) -> str:
    """Return text for an HTML page, also for a quoted attribute."""
    return html.escape(line(text))


def markdown(text: str) -> str:
    """Return text for Markdown, in which it has no markup."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: str) -> str:
    """Return text as inline code of Markdown, also within a table; code cannot be empty there."""
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

    pdflatex stops at a letter that its fonts lack: of that there is the number, as <U+6F22>.
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
