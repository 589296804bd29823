"""What a combined ticket records: the operation, its tickets, and the texts they were trained on.

It records no search, since none was run for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tamtctl.data.units import BLOCKS, rows_of
from tamtctl.pruning.patterns import UNSTRUCTURED, Pattern
from tamtctl.ticket.hub.names import DECLARED
from tamtctl.ticket.made_of import TICKETS, Part
from tamtctl.ticket.texts import sequence_length_of
from tamtctl.ticket.ticket import Ticket


def record_of(
    op: str,
    sparsity: float | None,
    shared_out: str,
    parts: Sequence[Part],
    pattern: Pattern,
) -> dict[str, Any]:
    """Return how the ticket was made, as plain JSON values.

    Args:
        op: Name of the operation.
        sparsity: Share of zeros that was asked for; None if the operation alone decided. The mask
            then follows no pattern.
        shared_out: What decided how many weights each matrix keeps, see `Poll`.
        parts: The tickets that were combined.
        pattern: The pattern that all of them share.
    """
    told: dict[str, Any] = {
        "operation": op,
        "shared_out": shared_out,
        TICKETS: [asdict(part) for part in parts],
    }
    if sparsity is not None:
        told["sparsity"] = sparsity
        told |= {} if pattern.name == UNSTRUCTURED else {"pattern": pattern.name}
    return told


def base_declared(first: Ticket) -> dict[str, Any]:
    """Return the declared Hub id of the base model, if the first ticket has one."""
    return {DECLARED: first.search[DECLARED]} if DECLARED in first.search else {}


def texts_trained_on(tickets: Sequence[Ticket]) -> dict[str, Any]:
    """Return all texts that the tickets were trained on, so that later losses use other text.

    How a text is read and cut is included where all tickets agree on it.
    """
    told: dict[str, Any] = {}
    for name in ("corpus", "held_out"):
        told[name] = list(dict.fromkeys(text for one in tickets for text in one.texts(name)))
    columns = [ticket.search.get("text_column") for ticket in tickets]
    facts: dict[str, list[Any]] = {
        "text_column": [column if isinstance(column, str) else None for column in columns],
        "sequence_length": [sequence_length_of(ticket) for ticket in tickets],
        "rows": [rows_of(ticket.search) for ticket in tickets],
    }
    agreed = {name: values[0] for name, values in facts.items() if len(set(values)) == 1}
    if agreed.get("rows") == BLOCKS:  # the default, which no ticket writes down
        del agreed["rows"]
    return told | {name: value for name, value in agreed.items() if value is not None}


def digests_trained_on(tickets: Sequence[Ticket]) -> dict[str, Any]:
    """Return the digests of all training texts; empty unless every ticket has its own."""
    listed = [ticket.metrics.get("trained_on") for ticket in tickets]
    if not all(isinstance(digests, list | tuple) for digests in listed):
        return {}
    return {"trained_on": list(dict.fromkeys(d for digests in listed for d in digests or ()))}
