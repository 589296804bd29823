"""Names on the Hub."""

from __future__ import annotations

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tamtctl.ticket.format.metadata import TicketMetadata

DECLARED = "base_model"  # the field of ``search`` that repeats a base model's Hub id as declared


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hub id."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def is_on_hub(ticket: TicketMetadata) -> bool:
    """Whether the base model is one of the Hub: by its commit, or as was declared."""
    base = ticket.base_model
    is_known = base.revision is not None or ticket.search.get(DECLARED) == base.id
    return is_known and is_hub_id(base.id)
