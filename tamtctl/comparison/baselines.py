"""One-shot masks that take no run: made on the spot, and written down only to be fine-tuned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tamtctl.foundations.errors import TicketError
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.one_shot import one_shot_masks
from tamtctl.pruning.searching.mask_probe import HeldOutText
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import RUNS, TICKET


def one_shot_ticket(
    method: str, seed: int | None, counts: Mapping[str, int], sparsity: float, text: HeldOutText
) -> Ticket:
    """Return the ticket of a one-shot mask.

    Args:
        method: A criterion that needs no text.
        seed: Seed of the mask; None if it has none.
        counts: Name → how many weights it keeps, of every matrix that it masks.
        sparsity: What it is said to aim at.
        text: Holds the model.
    """
    weights = text.weights
    context = Context(weights={name: weights[name] for name in counts}, seed=seed or 0)
    masks = one_shot_masks(method, context, counts)
    return Ticket.create(
        {name: weights[name] for name in counts},
        masks,
        base_model_id=text.encoder.id,
        revision=text.encoder.revision,
        model_type=text.encoder.model.config.model_type,
        target_sparsity=sparsity,
        method=method,
        objective=None,
        search={},
        metrics={},
    )


def saved(ticket: Ticket) -> Path:
    """Return a folder under ``runs/`` that holds a one-shot ticket, written if it is not there.

    It is named by the masks, so that another comparison of the same fine-tunes nothing again.
    """
    digest = hashlib.sha256(ticket.base_model.fingerprint.encode() + ticket.masks_digest)
    folder = RUNS / f"baseline-{ticket.method}-{digest.hexdigest()[:8]}" / TICKET
    try:
        there = Ticket.load(folder)
        if (there.parameters, there.masks_digest) == (ticket.parameters, ticket.masks_digest):
            return folder
    except TicketError:
        pass  # there is none yet, or a damaged one
    folder.parent.mkdir(parents=True, exist_ok=True)
    ticket.save_pretrained(folder)
    return folder
