"""What the losses of a ticket and of the masks beside it say, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping


def gap_closed(losses: Mapping[str, float], errors: Mapping[str, float | None]) -> str | None:
    """Return how much of the way from magnitude to dense a ticket goes; None if there is no way.

    Args:
        losses: Of ``dense``, ``magnitude`` and ``ticket``; without one of them nothing is said.
        errors: Standard errors of these, as far as there are some.
    """
    if not {"dense", "magnitude", "ticket"} <= losses.keys():
        return None
    gap = losses["magnitude"] - losses["dense"]
    found = [errors.get(name) for name in ("dense", "magnitude")]
    unsure = max((error for error in found if error is not None), default=0.0)
    if 0 < gap < unsure:
        return (
            "The gap from magnitude to dense is smaller than its standard error: how much of it "
            "the ticket closes cannot be told."
        )
    if gap <= 0:
        return None
    closed = (losses["magnitude"] - losses["ticket"]) / gap
    return f"The ticket closes {closed:.0%} of the gap from magnitude to dense."
