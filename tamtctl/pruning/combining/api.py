"""Making a ticket of several tickets of one model, by their votes."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tamtctl.foundations.checks import one_of, sequence
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.folders import check_target, folder_size
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.torch_state import usual_torch
from tamtctl.pruning.combining.alike import check_alike, common_pattern
from tamtctl.pruning.combining.operations import MAJORITY, OPERATIONS
from tamtctl.pruning.combining.record import (
    base_declared,
    digests_trained_on,
    record_of,
    texts_trained_on,
)
from tamtctl.pruning.combining.result import CombineResult
from tamtctl.pruning.combining.votes import FIRST, SHARINGS, UNIFORM, Poll
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.pruning.sparsities import check_sparsity
from tamtctl.ticket.base_model import load_base
from tamtctl.ticket.finding import refuse_twice, resolve_ticket
from tamtctl.ticket.format.mask_codec import ENCODINGS
from tamtctl.ticket.made_of import COMBINED, Part
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import RUNS, TICKET

HEAD_CHOICES = (FIRST, "none")


@usual_torch()
def combine(
    tickets: Sequence[Path | str],
    output_dir: Path | str | None = None,
    *,
    op: str = MAJORITY,
    sparsity: float | None = None,
    allocation: str = FIRST,
    head: str = FIRST,
    model: Path | str | None = None,
    encoding: str = "bits",
    token: str | None = None,
) -> CombineResult:
    """Make one ticket out of several tickets of one model; nothing is searched for or measured.

    Every ticket has one vote on every weight. Without a sparsity, the operation says how many votes
    keep a weight. With a sparsity, exactly as many weights are kept as it says: those with the most
    votes, and among equal votes those of the largest magnitude. The operation then makes no
    difference.

    Args:
        tickets: Two or more folders or names of tickets.
        output_dir: The new ticket's folder; new or empty. By default one under ``runs/``, named by
            what it is made of.
        op: ``union``, ``intersection`` or ``majority``, which is more than half of the votes.
        sparsity: Share of zeros, in [0, 1).
        allocation: With a sparsity: ``first`` shares the kept weights out over the matrices as the
            first ticket does; ``uniform`` gives every matrix this sparsity.
        head: ``first`` takes over the first ticket's masked-LM head, if it has one; or ``none``.
        model: Where the tickets' base model is, if not where the first one says.
        encoding: How to store the masks: ``bits``, ``zstd`` or ``delta``.
        token: For private tickets on the Hub.

    Raises:
        UsageError: Fewer than two tickets, one of them twice, or a value that is refused.
        TicketError: A ticket is missing or damaged, or they are of different models, matrices or
            patterns.
        ModelError: Their model cannot be loaded.

    Example:
        >>> both = tamtctl.combine(["nano-0.5", "nano-0.7"], "my-union", op="union")
        >>> tamtctl.Ticket.from_pretrained("my-union").sparsity < 0.5
        True
    """
    sequence("the tickets", tickets)
    one_of("op", op, OPERATIONS)
    one_of("allocation", allocation, SHARINGS)
    one_of("head", head, HEAD_CHOICES)
    one_of("encoding", encoding, ENCODINGS)
    if sparsity is not None:
        check_sparsity(sparsity)
        sparsity = float(sparsity)
    if output_dir is not None:
        check_target(output_dir)
    names = tuple(map(str, tickets))
    given = _loaded(names, token)
    check_alike(given)
    pattern = common_pattern(given, sparsity)
    first = next(iter(given.values()))
    encoder = load_base(first, None if model is None else str(model))
    first.check_weights(encoder.weights, model=encoder.id, remedy="give the tickets' own --model")
    weights = {name: encoder.weights[name] for name in first.parameters}
    voting = [ticket.encode("bits", weights) for ticket in given.values()]
    poll = Poll.of(voting, weights, OPERATIONS[op], pattern, sparsity, allocation)
    parts = [Part.of(n, one, one.masks_digest) for n, one in zip(names, voting, strict=True)]
    record = record_of(op, sparsity, poll.shared_out, parts, pattern)
    made = Ticket.create(
        weights,
        poll.masks,
        base_model_id=encoder.id,
        revision=encoder.revision,
        model_type=first.base_model.model_type,
        target_sparsity=1 - poll.kept / first.total if sparsity is None else sparsity,
        allocation=UNIFORM if poll.shared_out == UNIFORM else "free",
        method=COMBINED,
        objective=None,
        pattern=UNSTRUCTURED if sparsity is None else pattern.name,
        search=record | texts_trained_on(voting) | base_declared(first),
        metrics=digests_trained_on(voting),
        declared=(first.base_model.id, first.base_model.revision),
        checksums={name: entry.sha256 for name, entry in first.parameters.items()},
        mlm_head=first.mlm_head if head == FIRST else None,
    )
    path = _default_folder(made) if output_dir is None else expanded(output_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.encode(encoding, weights).save_pretrained(path)
    return CombineResult(
        ticket=path,
        operation=op,
        tickets=names,
        model=first.base_model.id,
        sparsity=made.sparsity,
        target_sparsity=sparsity,
        shared_out=poll.shared_out,
        matrices=len(made.parameters),
        weights=made.total,
        kept=made.kept,
        kept_by_operation=poll.kept_by_operation,
        votes=poll.votes,
        empty=tuple(name for name, entry in made.parameters.items() if not entry.kept),
        head=made.mlm_head is not None,
        notes=tuple(_notes(parts)),
        bytes=folder_size(path),
    )


def _loaded(names: Sequence[str], token: str | None) -> dict[str, Ticket]:
    """Return name → ticket of two or more, each given once."""
    if len(names) < 2:
        raise UsageError(f"combine takes two or more tickets, got {len(names) or 'none'}")
    paths = [resolve_ticket(name, token=token).path for name in names]
    refuse_twice(zip(names, paths, strict=True), "ticket")
    return {name: Ticket.load(path) for name, path in zip(names, paths, strict=True)}


def _default_folder(ticket: Ticket) -> Path:
    """Return a folder under ``runs/`` that is named by what a ticket was made of, and how."""
    what = json.dumps([ticket.search, ticket.mlm_head is None], sort_keys=True)
    digest = hashlib.sha256(ticket.base_model.fingerprint.encode() + what.encode()).hexdigest()
    model = folder_name(PurePosixPath(ticket.base_model.id).name)
    how = f"{ticket.search['operation']}-{ticket.target_sparsity:.4g}"
    return RUNS / f"combine-{model}-{how}-{digest[:8]}" / TICKET


def _notes(parts: Sequence[Part]) -> Iterator[str]:
    for one, other in itertools.combinations(parts, 2):
        if one.masks_sha256 == other.masks_sha256:
            yield f"{one.name} and {other.name} hold the same masks, whose votes count twice"
