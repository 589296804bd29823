"""The card of a checkpoint that was made of a ticket: whose weights it holds, and their licence.

Where the licence of the base model is not known there is no card, since it would say nothing.
"""

from __future__ import annotations

from pathlib import Path

from tamtctl.foundations import printable
from tamtctl.foundations.plain_files import read_regular
from tamtctl.models.licences import CARD, MOST_BYTES, licence_of
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.hub.names import is_on_hub


def write_card(ticket: TicketMetadata, base: str, revision: str | None, folder: Path) -> None:
    """Write the card of a checkpoint, if the licence of its base model is known.

    Args:
        ticket: What was pruned.
        base: Where the base model is: ``nano``, a folder or a Hub id.
        revision: Its commit on the Hub.
        folder: The checkpoint's.
    """
    licence = licence_of(base, revision)
    if licence is None:
        return
    model = ticket.base_model.id
    about = [f"base_model: {model}"] if is_on_hub(ticket) else []
    shown, how = (printable.markdown_code(text) for text in (model, ticket.method))
    text = [
        "---",
        *about,
        f"license: {licence}",
        "library_name: transformers",
        "---",
        "",
        f"The weights are those of {shown}, pruned to sparsity {ticket.target_sparsity:.4g} by "
        f"tamtctl ({how}). They are under the licence of that model, `{licence}`.",
        "",
    ]
    (folder / CARD).write_text("\n".join(text), encoding="utf-8")


def copy_card(checkpoint: Path, folder: Path) -> None:
    """Copy the card of a checkpoint to another form of it, if it says a licence."""
    if licence_of(str(checkpoint)) is not None:
        (folder / CARD).write_bytes(read_regular(checkpoint / CARD, MOST_BYTES))
