r"""A comparison's table as LaTeX, with the caption that a paper needs.

It is a ``table`` with the rules of the package booktabs: ``\usepackage{booktabs}``, and
``\input{results}``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tamtctl.comparison.found import Table
from tamtctl.foundations import printable


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
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{printable.latex(caption)}}}",
        f"  \\label{{{label}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        "    \\toprule",
        f"    {_row(table.heading)}",
        "    \\midrule",
    ]
    for before, row in zip([None, *table.rows], table.rows, strict=False):
        if before is not None and before[0] != row[0]:
            lines.append("    \\midrule")
        lines.append(f"    {_row(row)}")
    lines += ["    \\bottomrule", "  \\end{tabular}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(printable.latex, cells)) + " \\\\"
