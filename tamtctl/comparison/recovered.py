"""Recovered weights in a comparison: they have rows beside the masks but are not ranked with them.

A better mask and better weights are two questions. Recovered weights have levels of their own, at
which only weights that were recovered in the same way are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tamtctl.comparison.bench import Bench
from tamtctl.comparison.comparable_tickets import too_good
from tamtctl.comparison.levels import Level, TicketLevel
from tamtctl.comparison.subnetworks import RECOVERED, Subnetwork
from tamtctl.comparison.ticket_labels import ticket_labels
from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.foundations.public_names import public
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.objectives import objectives
from tamtctl.pruning.recovery.record import Recovered
from tamtctl.pruning.recovery.training import lost_zeros
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.ticket.finding import refuse_twice
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.format.patterns import is_sliced
from tamtctl.ticket.slicing import unsliced
from tamtctl.ticket.texts import TextSource
from tamtctl.ticket.ticket import Ticket


@dataclass(frozen=True)
class OpenedRecovery:
    """Recovered weights that are compared.

    Attributes:
        found: The checkpoint, with how it was recovered.
        ticket: Label of the ticket that it was recovered from.
        level: The level at which it is compared.
        is_sliced: Whether the pruned neurons are cut out of its matrices.
    """

    found: Recovered
    ticket: str
    level: Level
    is_sliced: bool


def split_names(names: Sequence[str]) -> tuple[tuple[str, ...], list[Recovered]]:
    """Return the names of tickets, and the recovered checkpoints, among the names given.

    Raises:
        ModelError: A checkpoint does not say how it was recovered.
        UsageError: There is no ticket, or a checkpoint is given twice.
    """
    found = {name: one for name in names if (one := Recovered.find(name)) is not None}
    tickets = tuple(name for name in names if name not in found)
    if names and not tickets:
        raise UsageError(
            f"{names[0]!r} holds recovered weights, which stand beside their ticket: give that, too"
        )
    refuse_twice(((name, one.folder) for name, one in found.items()), "checkpoint")
    return tickets, list(found.values())


def open_recovered(
    recovered: Sequence[Recovered],
    tickets: Mapping[str, Path],
    levels: Mapping[str, TicketLevel],
) -> dict[str, OpenedRecovery]:
    """Return label → recovered weights, each with its ticket and its level.

    Args:
        recovered: The checkpoints.
        tickets: Label → folder of each ticket.
        levels: Label → level of each ticket.

    Raises:
        UsageError: The ticket of a checkpoint is not among the tickets.
    """
    digests = {file_sha256(path / METADATA_FILE): label for label, path in tickets.items()}
    settings: dict[Level, str] = {}
    found = {}
    labels = ticket_labels([str(one.folder) for one in recovered], ())
    for one in recovered:
        label = f"{labels[str(one.folder)]} recovered"
        ticket = digests.get(one.ticket_sha256)
        if ticket is None:
            raise UsageError(
                f"{str(one.folder)!r} was recovered from a ticket {one.ticket_name!r}, which is "
                "none of those that are given; give it, too"
            )
        at = levels[ticket]
        level = _level(at.level, one)
        how = json.dumps(one.settings, sort_keys=True)
        if settings.setdefault(level, how) != how:
            level = Level(level.sparsity, f"{level.among}, as {label}")
            settings[level] = how
        found[label] = OpenedRecovery(one, ticket, level, is_sliced(at.pattern))
    return found


def notes_on_texts(
    recovered: Mapping[str, OpenedRecovery], measured: Iterable[tuple[TextSource, HeldOutText]]
) -> Iterator[str]:
    """Yield a note for recovered weights that were trained on text that they are measured on.

    Args:
        recovered: Label → recovered weights.
        measured: Pairs of where a text comes from, and the text.
    """
    for source, text in measured:
        names = set(map(public, source.measured))
        for label, one in recovered.items():
            weights = one.found.training
            is_seen = bool(names & set(weights.names))
            if not source.held_out and weights.digests is not None:
                is_seen = bool(set(text.digests) & set(weights.digests))
            # The tenth that a recovery holds out of a corpus is that of a comparison.
            if is_seen and (source.held_out or weights.has_held_out):
                yield too_good(label, source)


def of_recovered(bench: Bench, label: str, given: OpenedRecovery, ticket: Ticket) -> Subnetwork:
    """Return recovered weights as measured on the texts of a comparison.

    Args:
        bench: The dense model and the text.
        label: The name in tables.
        given: The checkpoint.
        ticket: The ticket that it was recovered from.

    Raises:
        ModelError: The checkpoint lacks the ticket's zeros, or cannot be loaded.
    """
    one, masks = given.found, bench.masks_of(ticket).unpacked()
    return Subnetwork(
        method=label,
        found_by=RECOVERED,
        objective=one.objective if one.objective in objectives() else None,
        sparsity=given.level.sparsity,
        among=given.level.among,
        seed=None,
        losses=bench.losses_of_weights(_weights(bench, given, masks)),
        steps=one.steps,
        is_given=True,
    )


def _level(of: Level, one: Recovered) -> Level:
    """Return the level of recovered weights: that of their ticket, and how they were recovered."""
    how = f"weights recovered, {one.objective}, {one.steps:,} steps"
    return Level(of.sparsity, f"{of.among}, {how}" if of.among else how)


def _weights(bench: Bench, given: OpenedRecovery, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return name → weight of a recovered checkpoint, in the shapes of the dense encoder.

    Raises:
        ModelError: The checkpoint cannot be loaded, is of another model, or lacks the zeros.
    """
    folder = str(given.found.folder)
    loaded = load_encoder(folder, with_head=False).base
    weights = {name: weight.detach() for name, weight in loaded.named_parameters()}
    if given.is_sliced:
        weights = unsliced(weights, masks)
    for name, dense in bench.text.encoder.base.named_parameters():
        shape = list(weights[name].shape) if name in weights else "none"
        if shape != list(dense.shape):
            raise ModelError(
                f"{folder!r} holds no weights of this model: its {name} has the shape {shape}, and "
                f"not {list(dense.shape)}"
            )
    if lost := lost_zeros(weights, masks):
        raise ModelError(f"{folder!r} has {lost:,} weights where {given.ticket} has zeros")
    return weights
