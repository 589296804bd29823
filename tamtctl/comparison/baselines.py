"""Tickets of one-shot masks, which are written to disk only to be scored on tasks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tamtctl.comparison.bench import Bench
from tamtctl.comparison.subnetworks import Subnetwork
from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import RUNS, TICKET


def saved(one: Subnetwork, bench: Bench, pattern: str) -> Path:
    """Return the folder under ``runs/`` of a one-shot mask's ticket, written if it is not there.

    The folder is named by the masks, so that another comparison finds their scores.
    """
    ticket = _ticket(one, bench, pattern)
    digest = hashlib.sha256(ticket.base_model.fingerprint.encode() + ticket.masks_digest)
    folder = RUNS / f"baseline-{ticket.method}-{digest.hexdigest()[:8]}" / TICKET
    try:
        there = Ticket.load(folder)
        if (there.parameters, there.masks_digest) == (ticket.parameters, ticket.masks_digest):
            return folder
    except TicketError:
        pass  # no ticket yet, or a damaged one
    folder.parent.mkdir(parents=True, exist_ok=True)
    ticket.save_pretrained(folder)
    return folder


def _ticket(one: Subnetwork, bench: Bench, pattern: str) -> Ticket:
    assert one.masks is not None
    masks, encoder = one.masks.unpacked(), bench.text.encoder
    return Ticket.create(
        {name: bench.weights[name] for name in masks},
        masks,
        base_model_id=encoder.id,
        revision=encoder.revision,
        model_type=encoder.model.config.model_type,
        target_sparsity=one.sparsity,
        method=one.found_by,
        pattern=pattern,
        objective=None,
        search={},
        metrics={},
        checksums=bench.checksums,
    )
