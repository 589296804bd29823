r"""A comparison's table as LaTeX, with the caption that a paper needs.

It is a ``table`` with the rules of the package booktabs, made smaller by graphicx where it is wider
than the text: ``\usepackage{booktabs,graphicx}``, and ``\input{results}``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from tamtctl.comparison.found import Table
from tamtctl.foundations import printable

_WIDEST_HEADING = 9  # characters of a line: a page has little room beside the numbers
_WITHIN_TEXT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex(table: Table, caption: str, label: str) -> str:
    """Return the table, in which the text of anybody is text.

    A rule stands where the first cell of a row is another than in the row before.

    Args:
        table: Its words are set to the left, its numbers to the right.
        caption: Whole sentences.
        label: What the paper refers to it by, of letters, digits, hyphens and colons.
    """
    columns = "l" * table.words + "r" * (len(table.heading) - table.words)
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}",
        "  \\centering",
        f"  {_WITHIN_TEXT}",
        f"  \\begin{{tabular}}{{{columns}}}",
        "    \\toprule",
        *(f"    {_row(cells)}" for cells in _heading(table.heading)),
        "    \\midrule",
    ]
    for before, row in zip([None, *table.rows], table.rows, strict=False):
        if before is not None and before[0] != row[0]:
            lines.append("    \\midrule")
        lines.append(f"    {_row(row)}")
    lines += [
        "    \\bottomrule",
        "  \\end{tabular}}",
        f"  \\caption{{{printable.latex(caption)}}}",
        f"  \\label{{{label}}}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _heading(cells: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the lines of the heading, each cell broken between its words and set at the bottom."""
    broken = [textwrap.wrap(cell, _WIDEST_HEADING, break_long_words=False) for cell in cells]
    height = max(map(len, broken))
    yield from zip(*([""] * (height - len(lines)) + lines for lines in broken), strict=True)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(printable.latex, cells)) + " \\\\"
