"""Names on the Hub."""

from __future__ import annotations

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tamtctl.ticket.format.metadata import TicketMetadata

# Fields of ``search``:
DECLARED = "base_model"  # the Hub id that a user declared for a folder
IMPORTED_FROM = "imported_from"  # what an imported ticket was made of


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a Hub id."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def is_on_hub(ticket: TicketMetadata) -> bool:
    """Return whether the base model is on the Hub: it has a commit, or was declared so."""
    base = ticket.base_model
    is_known = base.revision is not None or ticket.search.get(DECLARED) == base.id
    return is_known and is_hub_id(base.id)
