"""Checks that tickets can be compared with each other, and notes on their texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.public_names import public
from tamtctl.models.loading import load_encoder
from tamtctl.models.sources import commit_of
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.ticket.heads import fitting_head
from tamtctl.ticket.texts import TextSource, trained_on
from tamtctl.ticket.ticket import Ticket


def check_one_model(tickets: Mapping[str, Ticket]) -> None:
    """Refuse tickets of different models, before a model is loaded, where they share a matrix.

    Raises:
        TicketError: Two of them mask a matrix of the same name with different weights.
    """
    for (name, one), (other_name, other) in itertools.combinations(tickets.items(), 2):
        for matrix, entry in one.parameters.items():
            if matrix in other.parameters and other.parameters[matrix].sha256 != entry.sha256:
                raise TicketError(
                    f"{name} is a ticket of {one.base_model.id!r}, and {other_name} one of "
                    f"{other.base_model.id!r}, with other weights in {matrix}; compare tickets of "
                    "one model"
                )


def check_newest(model: str, revision: str | None, weights: Mapping[str, Tensor]) -> None:
    """Refuse a model whose weights have changed on the Hub since its tickets were found.

    Tasks are scored with the newest weights for the dense model.

    Args:
        model: A folder, or a Hub id.
        revision: The commit that the tickets are for; None if they name none.
        weights: Name → its weights at that commit.

    Raises:
        TicketError: The newest weights are others.
    """
    if revision is None or commit_of(model) in (None, revision):
        return
    newest = load_encoder(model, with_head=False).weights
    if newest.keys() != weights.keys() or not all(
        torch.equal(newest[name], weight) for name, weight in weights.items()
    ):
        raise TicketError(
            f"model {model!r} has other weights on the Hub now than at commit {revision[:12]}, "
            "which the tickets are for, so that the dense model would be another one; download "
            "that commit and give its folder with --model"
        )


def check_heads(tickets: Mapping[str, Ticket], text: HeldOutText) -> None:
    """Refuse a ticket with a head of another model; losses are measured with the model's own."""
    if not text.head:
        return
    model = text.encoder.model
    for name, ticket in tickets.items():
        try:
            if ticket.mlm_head is not None:
                fitting_head(ticket.mlm_head, text.head, model)
        except TicketError as error:
            raise TicketError(f"ticket {name!r}: {error}") from error


def notes_on_training(
    sources: Sequence[TextSource], tickets: Mapping[str, TextSource]
) -> Iterator[str]:
    """Yield a note for each ticket that was trained on text that it is measured on."""
    for source in sources:
        for label, own in tickets.items():
            if trained_on(source, own):
                yield too_good(label, source)


def too_good(label: str, source: TextSource) -> str:
    """Return the note on something that was trained on text that it is measured on."""
    text = " ".join(map(public, source.measured))
    return (
        f"{label} was trained on text of {text}, on which it is measured: its loss there is too "
        "good"
    )


def notes_on_other_content(
    measured: Iterable[tuple[TextSource, HeldOutText]],
    tickets: Mapping[str, Ticket],
    sources: Mapping[str, TextSource],
) -> Iterator[str]:
    """Yield a note for each ticket whose corpus has the name of a measured one but other content.

    A ticket holds the digests of the files that it was trained on. Where it or the comparison has
    a held-out text apart from the corpus, they say nothing of what is measured, and there is no
    note.

    Args:
        measured: Pairs of where a text comes from, and the text.
        tickets: Label in tables → the ticket.
        sources: Label → the text that the ticket was trained on.
    """
    for source, text in measured:
        for label, ticket in tickets.items():
            own = sources[label]
            digests = ticket.metrics.get("trained_on")
            if not isinstance(digests, list | tuple) or own.held_out or source.held_out:
                continue
            name = " ".join(map(public, source.corpus))
            is_same_name = " ".join(map(public, own.corpus)) == name
            if is_same_name and set(map(str, digests)) != set(text.digests):
                yield (
                    f"{label} was trained on other text than is in {name} now: its losses are not "
                    "those that it was made with"
                )
