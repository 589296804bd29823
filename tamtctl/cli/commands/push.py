"""``tamtctl push``: publish a ticket on the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.cli.completion import among
from tamtctl.cli.options import BaseModelOption, EncodingOption, TokenOption
from tamtctl.cli.screen import hush_hub, watched
from tamtctl.ticket.local_names import ticket_names

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def push(
    output: Output,
    ticket: Annotated[
        str,
        typer.Argument(
            help="A ticket: its folder, packaged name or Hub id org/name[@revision].",
            autocompletion=among(ticket_names),
        ),
    ],
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
