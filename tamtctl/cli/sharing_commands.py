"""``tamtctl push`` and ``pull``: send tickets to the Hub, and fetch them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.options import BaseModelOption, EncodingOption, TicketArgument, TokenOption
from tamtctl.cli.screen import hush_hub, watched

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def push(
    output: Output,
    ticket: TicketArgument,
    repo: Annotated[str, typer.Argument(help="Where to: org/name.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make the new repository private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch; created if it does not exist.")
    ] = None,
    commit_message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead.")
    ] = False,
    license: Annotated[  # noqa: A002, as the option is called
        str | None, typer.Option(help="The licence, as the Hub names it: apache-2.0, mit, …")
    ] = None,
    encoding: EncodingOption = None,
    base_model: BaseModelOption = None,
    token: TokenOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent; send nothing.")
    ] = False,
) -> None:
    """Publish a ticket on the Hugging Face Hub, with a model card."""
    hush_hub(output)
    from tamtctl.cli.views.exchange import show_push
    from tamtctl.ticket.sharing import push as push_ticket

    with watched(output, f"publishing {ticket}"):
        result = push_ticket(
            ticket,
            repo,
            private=private,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
            license=license,
            encoding=encoding,
            base_model=base_model,
            token=token,
            dry_run=dry_run,
        )
    show_push(output, result)
    output.result(result.to_dict(), result.url)


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
