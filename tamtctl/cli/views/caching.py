"""How the contents of the cache look on a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamtctl.cli.console import Page, PlainTable
from tamtctl.foundations.folders import size

if TYPE_CHECKING:
    from tamtctl.ticket.caches import CacheContents


def show_cache(output: Page, contents: CacheContents) -> None:
    """Print what is kept, how large it is, and where."""
    table = PlainTable("name", "what it is")
    table.add_column("files", justify="right")
    table.add_column("size", justify="right")
    for one in contents.caches:
        table.add_row(one.name, one.about, f"{one.files:,}", size(one.bytes))
    output.table(table)
    for note in contents.notes:
        output.notes.line(f"note    {note}")
    folders = dict.fromkeys(
        one.folder.parent if one.name == one.folder.name else one.folder for one in contents.caches
    )
    output.line(f"{size(contents.bytes)} in {' and '.join(map(str, folders))}")
