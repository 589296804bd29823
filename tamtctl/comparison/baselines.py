"""Tickets of one-shot masks, which are written to disk only to be scored on tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tamtctl.comparison.bench import Bench
from tamtctl.comparison.levels import TicketLevel
from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import RUNS, TICKET


def saved(bench: Bench, method: str, masks: Mapping[str, Tensor], at: TicketLevel) -> Path:
    """Return the folder under ``runs/`` of a one-shot mask's ticket, written if it is not there.

    The folder is named by the masks, so that another comparison finds their scores.
    """
    ticket = _ticket(bench, method, masks, at)
    folder = _folder(ticket)
    if not _holds(folder, ticket):
        folder.parent.mkdir(parents=True, exist_ok=True)
        ticket.save_pretrained(folder)
    return folder


def found_before(
    bench: Bench, method: str, masks: Mapping[str, Tensor], at: TicketLevel
) -> Path | None:
    """Return the folder that `saved` has written; None if there is none."""
    ticket = _ticket(bench, method, masks, at)
    folder = _folder(ticket)
    return folder if _holds(folder, ticket) else None


def _folder(ticket: Ticket) -> Path:
    digest = hashlib.sha256(ticket.base_model.fingerprint.encode() + ticket.masks_digest)
    return RUNS / f"baseline-{ticket.method}-{digest.hexdigest()[:8]}" / TICKET


def _holds(folder: Path, ticket: Ticket) -> bool:
    try:
        there = Ticket.load(folder)
    except TicketError:  # no ticket yet, or a damaged one
        return False
    return (there.parameters, there.masks_digest) == (ticket.parameters, ticket.masks_digest)


def _ticket(bench: Bench, method: str, masks: Mapping[str, Tensor], at: TicketLevel) -> Ticket:
    encoder = bench.text.encoder
    return Ticket.create(
        {name: bench.weights[name] for name in masks},
        masks,
        base_model_id=encoder.id,
        revision=encoder.revision,
        model_type=encoder.model.config.model_type,
        target_sparsity=at.level.sparsity,
        method=method,
        pattern=at.pattern,
        objective=None,
        search={},
        metrics={},
        checksums=bench.checksums,
    )
