"""``tamtctl pull``: fetch a ticket from the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.options import TokenOption
from tamtctl.cli.screen import hush_hub, watched

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def pull(
    output: Output,
    repo: Annotated[str, typer.Argument(help="Hub id: org/name.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    local_dir: Annotated[
        Path | None, typer.Option(help="Also copy the ticket to this folder.")
    ] = None,
    force_download: Annotated[
        bool, typer.Option("--force-download", help="Fetch again what the cache holds.")
    ] = False,
    token: TokenOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be fetched; fetch nothing.")
    ] = False,
) -> None:
    """Fetch a ticket from the Hugging Face Hub and verify it."""
    hush_hub(output)
    from tamtctl.cli.views.exchange import show_pull
    from tamtctl.ticket.hub.pulling import pull as pull_ticket

    with watched(output, f"fetching {repo}"):
        result = pull_ticket(
            repo,
            revision=revision,
            local_dir=local_dir,
            force_download=force_download,
            token=token,
            dry_run=dry_run,
        )
    show_pull(output, result)
    output.result(result.to_dict(), str(result.path))
