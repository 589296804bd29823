r"""A comparison's table as LaTeX, with the caption that a paper needs.

The ``table`` uses the packages booktabs, for its rules, and graphicx, to shrink it to the width of
the text: ``\usepackage{booktabs,graphicx}``, then ``\input{results}``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from tamtctl.comparison.found import Table
from tamtctl.foundations import printable

_WIDEST_HEADING = 9  # characters a line, as numbers leave little room on a page
_WITHIN_TEXT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex(table: Table, caption: str, label: str) -> str:
    """Return the table as LaTeX, with names and texts escaped.

    A rule is drawn before a row whose first cell differs from that of the row above.

    Args:
        table: The table; its words are set to the left, its numbers to the right.
        caption: Whole sentences.
        label: The name for references to it: letters, digits, hyphens and colons.
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
    """Yield the lines of the heading; cells are broken between words and aligned at the bottom."""
    broken = [textwrap.wrap(cell, _WIDEST_HEADING, break_long_words=False) for cell in cells]
    height = max(map(len, broken))
    yield from zip(*([""] * (height - len(lines)) + lines for lines in broken), strict=True)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(printable.latex, cells)) + " \\\\"
