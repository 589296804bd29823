"""The table of held-out losses of a search or a recovery, beside those of the baselines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tamtctl.cli.console import PlainTable
from tamtctl.cli.views.words import error_text

if TYPE_CHECKING:
    from tamtctl.pruning.recovery.result import RecoverResult
    from tamtctl.pruning.searching.result import SearchResult


def loss_table(
    heading: str,
    result: SearchResult | RecoverResult,
    *,
    found: str,
    called: Callable[[str], str] = str,
) -> PlainTable:
    """Return the losses of all candidates, and their losses on a check corpus if there is one.

    Args:
        heading: The heading of the column of names.
        result: What the search or recovery found.
        found: The name of the candidate that was found, which is in bold.
        called: Name of a candidate → what the table calls it.
    """
    table = PlainTable(heading)
    table.add_column("loss", justify="right")
    table.add_column("± s.e.", justify="right")
    if result.check_losses:
        table.add_column("check corpus", justify="right")
    for name, loss in result.losses.items():
        row = [called(name), f"{loss:.3f}", error_text(result.standard_errors[name], 3)]
        if result.check_losses:
            row.append(f"{result.check_losses[name]:.3f}")
        table.add_row(*row, style="bold" if name == found else None)
    return table
