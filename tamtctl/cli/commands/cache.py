"""``tamtctl cache``: show what is kept besides runs, and clear it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.completion import among
from tamtctl.foundations.cache import CACHES
from tamtctl.foundations.errors import UsageError

if TYPE_CHECKING:
    from tamtctl.cli.console import Output

_CLEAR = "clear"


@command()
def cache(
    output: Output,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="clear NAME",
            show_default=False,
            help=f"clear removes the caches that are named, of {', '.join(CACHES)}, tickets; "
            "without a name, all but tickets. Without clear, they are only shown.",
            autocompletion=among((_CLEAR, *CACHES, "tickets")),
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what clear would remove; remove nothing.")
    ] = False,
) -> None:
    """Show the caches and how large they are, or clear them.

    What is cleared is made or fetched again when it is needed. While another tamtctl is at work,
    nothing is cleared; links are never followed.
    """
    from tamtctl.cli.views.caching import show_cache
    from tamtctl.ticket import caches

    action, names = (words[0], words[1:]) if words else (None, [])
    if action not in (None, _CLEAR):
        raise UsageError(f"cache {action!r} is nothing that can be done; type tamtctl cache clear")
    if action is None and dry_run:
        raise UsageError("--dry-run is for tamtctl cache clear")
    contents = caches.clear_cache(names, dry_run=dry_run) if action else caches.cache_contents()
    show_cache(output, contents)
    if action:
        output.line("cleared" if contents.cleared else "nothing was removed")
    output.result(contents.to_dict(), str(contents.bytes))
