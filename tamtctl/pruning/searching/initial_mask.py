"""The initial mask of a search, which is the final mask of a one-shot method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial

from torch import Tensor

from tamtctl.data.sequences import Sequences
from tamtctl.data.streaming import StreamedText
from tamtctl.foundations import printable
from tamtctl.foundations.errors import DamagedRunError, TicketError
from tamtctl.foundations.paths import expanded
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.allocations import ALLOCATIONS
from tamtctl.pruning.allocations.request import Request
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import REFERENCE, Criterion, is_criterion
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.methods import IMP, TAMT
from tamtctl.pruning.one_shot import Ranking, keep_counts, ranked, reference_masks, with_word_floor
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.searching.criterion_context import criterion_context
from tamtctl.pruning.searching.pattern_matrices import check_pattern_of_start, structures_kept
from tamtctl.pruning.settings import TWO_VALUED
from tamtctl.pruning.sparsities import cut_sparsities
from tamtctl.pruning.trained.initial_scores import Start, scores_in_nats
from tamtctl.pruning.trained.kept_scores import masks_from_scores
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import TICKET


def initial_start(
    config: SearchConfig, encoder: Encoder, text: Sequences | StreamedText, ticket: Ticket | None
) -> Start:
    """Return the masks that a search starts from, and for mask training the initial scores.

    Args:
        config: The whole search.
        encoder: Holds the dense weights; on its device if a criterion needs text.
        text: The training text.
        ticket: What `initial_ticket` returned.
    """
    weights, pattern = encoder.weights, config.pattern
    sparsity = config.settled_sparsity
    sparsities = cut_sparsities(sparsity) if config.method == IMP else (sparsity,)
    by = config.budgets_by
    budgets = None if by is None else _ranking(config, by, encoder, text, None)
    cuts = tuple(_counts(config, encoder, budgets, sparsities))
    keep = cuts[-1]
    ranking = _ranking(config, config.criterion, encoder, text, keep)
    if config.word_floor and config.from_scores is None:  # else the kept scores decide
        ranking = with_word_floor(ranking, keep, encoder.embeddings, config.word_floor)
    seconds = math.fsum(ranking.passes | (budgets.passes if budgets else frozenset()))
    masks = _at_home(ranking.masks(keep, pattern), weights)
    unranked = _unranked(config.criterion, ranking, keep.keys() & encoder.matrices.keys())
    start = partial(Start, masks, keep, calibration_seconds=seconds, unranked=unranked)
    if config.method != TAMT:
        return start(cuts=cuts)
    if config.from_scores is not None:
        reached = {name: weights[name] for name in encoder.matrices}
        masks |= masks_from_scores(
            expanded(config.from_scores), reached, keep, pattern,
            words=encoder.embeddings, word_floor=config.word_floor,
        )  # fmt: skip
    elif ticket is not None:
        covered = {n: w.cpu() for n, w in weights.items() if n in ticket.parameters}
        known = ticket.masks_over(covered)
        masks |= {name: known.mask(name) for name in encoder.matrices}
    # No gradient reaches the pooler: its initial mask is also its final one.
    if pooler := {name: keep[name] for name in encoder.pooler}:
        masks |= reference_masks(encoder.pooler, pooler, pattern)
    if config.init_scores == TWO_VALUED or not config.is_trained:
        return start()
    trained = {name: masks[name].to(weights[name].device) for name in encoder.matrices}
    scores = scores_in_nats(ranking, trained, keep, weights, pattern)
    scores = {name: score.cpu() for name, score in scores.items()}
    return start(scores=scores)


def _counts(
    config: SearchConfig, encoder: Encoder, budgets: Ranking | None, sparsities: Sequence[float]
) -> Iterator[dict[str, int]]:
    """Yield name → how many weights each matrix keeps, once for each sparsity.

    The pooler, which no objective reaches, always has the sparsity itself and no budget.
    """
    weights, importance = encoder.weights, {}
    if budgets is not None:
        shared = [name for name in encoder.matrices if name in budgets.reached]
        importance = {name: budgets.importance[name] for name in shared}
    for sparsity in sparsities:
        request = Request(
            sparsity=sparsity,
            sizes={name: weight.numel() for name, weight in weights.items()},
            even=keep_counts(weights, sparsity, config.pattern),
            importance=importance,
            embeddings=encoder.embeddings,
            floor=config.least_share,
        )
        if budgets is not None and find_pattern(config.pattern).is_structured:
            yield structures_kept(config, weights, request)
        else:
            yield ALLOCATIONS[config.allocation].keep(request)


def _ranking(
    config: SearchConfig,
    criterion: Criterion,
    encoder: Encoder,
    text: Sequences | StreamedText,
    keep: Mapping[str, int] | None,
) -> Ranking:
    weights = encoder.weights
    context = Context(weights=weights, seed=config.seed, keep=keep)
    if not criterion.needs_text:
        return ranked(criterion.name, context, weights)
    with criterion_context(config, criterion, encoder, text, context) as context:
        return ranked(criterion.name, context, weights)


def _unranked(criterion: Criterion, ranking: Ranking, names: AbstractSet[str]) -> tuple[str, ...]:
    """Return the matrices that a criterion gives no scores of."""
    has_all = not criterion.needs_text and not criterion.is_foreign
    return () if has_all else tuple(sorted(names - ranking.reached))


def note_on_unranked(config: SearchConfig, start: Start) -> str | None:
    """Return a line for people about matrices without scores; None if there are none."""
    if not start.unranked:
        return None
    one, names = len(start.unranked) == 1, printable.first(start.unranked, 1)
    if not config.criterion.needs_text:
        return f"{config.criterion.name} gives no scores of {names}: {REFERENCE} ranks the weights"
    return (
        f"{names} {'has' if one else 'have'} no part in what the model makes "
        f"of this text: not {config.criterion.name}, but {REFERENCE} ranks "
        f"{'its' if one else 'their'} weights"
    )


def _at_home(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks on the CPU, from where they can be sent to other processes."""
    return {name: masks[name].cpu() for name in weights}


def with_matrices_of(
    ticket: Ticket | None, config: SearchConfig, encoder: Encoder, note: Callable[[str], None]
) -> Encoder:
    """Return the encoder, its maskable matrices reduced to those of the ticket of ``--init``.

    A ticket may mask the linear layers alone. A search from it then leaves the embeddings dense,
    too, since they have no mask to start from.

    Args:
        ticket: What `initial_ticket` returned.
        config: The whole search.
        encoder: The encoder with all of its matrices.
        note: Is given a line for people about matrices that stay dense.

    Raises:
        TicketError: The ticket masks no matrix that training reaches.
    """
    if ticket is None:
        return encoder
    covered = ticket.parameters
    matrices = {name: p for name, p in encoder.matrices.items() if name in covered}
    if not matrices:
        raise TicketError(
            f"the ticket of --init {config.init} masks nothing that training reaches, only "
            f"{', '.join(covered)}; give another ticket"
        )
    if dense := [name for name in encoder.matrices if name not in covered]:
        note(
            f"--init {config.init} masks {len(matrices)} of {len(encoder.matrices)} matrices, and "
            f"so will the search; {printable.first(dense, 1)} stay{'s' * (len(dense) == 1)} dense"
        )
    pooler = {name: weight for name, weight in encoder.pooler.items() if name in covered}
    return replace(encoder, matrices=matrices, pooler=pooler)


def initial_ticket(
    config: SearchConfig, encoder: Encoder, checksums: Mapping[str, str]
) -> Ticket | None:
    """Return the ticket that mask training starts from; None if it starts from another mask.

    Args:
        config: The whole search.
        encoder: The encoder with all of its matrices.
        checksums: Name → SHA-256 of each of its weights.

    Raises:
        TicketError: The ticket cannot be read, or is not of this model.
        UsageError: The ticket has another pattern than the search.
    """
    if config.method != TAMT or is_criterion(config.init):
        return None
    ticket = Ticket.from_pretrained(config.init)
    check_pattern_of_start(config, ticket)
    remedy = "give --init a ticket of the same model"
    ticket.check_weights(encoder.weights, model=encoder.id, remedy=remedy, checksums=checksums)
    return ticket


def check_scored(run: str, encoder: Encoder, checksums: Mapping[str, str]) -> None:
    """Make sure that the kept scores of a run are of this model's weights, by its ticket.

    Args:
        run: The run's folder.
        encoder: The model.
        checksums: Name → SHA-256 of each of its weights.

    Raises:
        DamagedRunError: The run's ticket cannot be read.
        TicketError: The run's ticket is of other weights.
    """
    try:
        ticket = Ticket.load(expanded(run) / TICKET)
    except TicketError as error:
        raise DamagedRunError(
            f"the run {run!r} has no scores that can be read, for its ticket cannot be "
            f"({error}); search with --keep-scores"
        ) from error
    remedy = f"the scores of {run!r} are for other weights: search again with --keep-scores"
    ticket.check_weights(encoder.weights, model=encoder.id, remedy=remedy, checksums=checksums)
