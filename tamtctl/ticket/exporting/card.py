"""The card of an exported checkpoint: whose weights it holds, and their licence.

It is written only if the licence of the base model is known.
"""

from __future__ import annotations

from pathlib import Path

from tamtctl.foundations import printable
from tamtctl.foundations.plain_files import read_regular
from tamtctl.models.licences import CARD, MOST_BYTES, licence_of
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.hub.names import is_on_hub


def write_card(
    ticket: TicketMetadata, base: str, revision: str | None, folder: Path, *, is_trained: bool
) -> None:
    """Write the card of a checkpoint, if the licence of its base model is known.

    Args:
        ticket: The ticket that was exported.
        base: The base model: ``nano``, a folder or a Hub id.
        revision: Its commit on the Hub.
        folder: The checkpoint's folder.
        is_trained: Whether weights were trained on.
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
        f"The weights are {'trained on from ' * is_trained}those of {shown}, pruned to sparsity "
        f"{ticket.target_sparsity:.4g} by tamtctl ({how}). They are under the licence of that "
        f"model, `{licence}`.",
        "",
    ]
    (folder / CARD).write_text("\n".join(text), encoding="utf-8")


def copy_card(checkpoint: Path, folder: Path) -> None:
    """Copy the card of a checkpoint to another folder, if it names a licence."""
    if licence_of(str(checkpoint)) is not None:
        (folder / CARD).write_bytes(read_regular(checkpoint / CARD, MOST_BYTES))
