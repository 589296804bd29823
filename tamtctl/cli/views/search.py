"""How a search looks on a screen: its plan, and the ticket's loss beside the baselines'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tamtctl.cli.console import Page
from tamtctl.cli.pace import duration
from tamtctl.cli.views.loss_table import loss_table
from tamtctl.cli.views.words import gap_closed, parts_text, place, sentence, tokens, typed
from tamtctl.data.units import UNITS
from tamtctl.foundations.counts import count
from tamtctl.foundations.folders import size
from tamtctl.pruning.allocations import UNIFORM
from tamtctl.pruning.criteria import REFERENCE, find_criterion, is_criterion
from tamtctl.pruning.methods import TAMT
from tamtctl.pruning.objectives import terms_of
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.pruning.searching.result import START
from tamtctl.ticket.made_of import KEPT_SCORES

if TYPE_CHECKING:
    from tamtctl.pruning.searching.result import SearchPlan, SearchResult


def show_plan(output: Page, plan: SearchPlan) -> None:
    """Print what a search will do."""
    config = plan.config
    train = "streamed" if plan.train_tokens is None else f"{tokens(plan.train_tokens)} tokens"
    told = plan.train_sequences or plan.held_out_sequences
    output.facts(
        {
            "model": f"{config.model} ({plan.model_type})",
            "corpus": f"{' '.join(config.corpus)} ({train}, "
            f"{tokens(plan.held_out_tokens)} held out)",
            "sequences": str(told) + ("" if plan.train_sequences else " (of what is held out)"),
            "method": f"{config.method}, objective {config.objective}, seed {config.seed}",
            "mask": f"{plan.weights:,} weights in {count(plan.matrices, 'matrix', 'matrices')}, "
            + _sparsity(plan)
            + ("" if config.pattern == UNSTRUCTURED else f", {config.pattern}"),
            **({} if plan.latency is None else {"latency": str(plan.latency)}),
            "training": _training(plan),
            "device": place(plan.device, plan.precision, plan.processes, plan.threads),
            "run folder": str(plan.run_folder),
        }
    )
    for warning in plan.warnings:
        output.notes.line(warning)


def _training(plan: SearchPlan) -> str:
    """Return how long will be trained, or why not at all."""
    if not plan.steps:
        is_one_shot = plan.config.from_scores is None
        return f"none, {'a one-shot mask' if is_one_shot else KEPT_SCORES}"
    done = f"{plan.resumed_from:,} of them done, " if plan.resumed_from else ""
    size = f"{count(plan.steps, 'step')} of {_batch(plan)}"
    return f"{size}, {done}about {duration(plan.estimated_seconds)}"


def _batch(plan: SearchPlan) -> str:
    """Return the size of a step's batch."""
    size, length = plan.config.batch_size, plan.config.sequence_length
    rows = plan.held_out_sequences.rows
    if UNITS[rows].is_packed:
        return f"{size} × {length} tokens"
    return f"{count(size, UNITS[rows].noun)} of at most {length} tokens"


def _sparsity(plan: SearchPlan) -> str:
    """Return how the zeros are shared out over the matrices."""
    config = plan.config
    asked = reached = config.settled_sparsity
    if config.pattern != UNSTRUCTURED:  # whole structures may miss what was asked for
        reached = round(plan.sparsities.get("layers", asked), 4)
    if config.budgets_by is None:
        found = f"sparsity {reached:g} in each"
    else:
        found = (
            f"sparsity {reached:g} in all, "
            f"{config.allocation} by {config.budgets_by.name}: "
            f"{parts_text(plan.sparsities)}"
        )
    if abs(reached - asked) >= 0.0005:
        found += f" ({asked:g} was asked for)"
    if config.word_floor:
        share = f"{config.word_floor:.0%}"
        found += f"; {share} of what the embeddings keep is shared out equally over the words"
    return found


def show_search_result(output: Page, result: SearchResult, asked: int | None = None) -> None:
    """Print the table of losses, the ticket, and what to type next.

    Args:
        output: Where to.
        result: The result.
        asked: The steps that were asked for, if a time limit may have ended the training.
    """
    if result.already_done:
        output.hint("This search was done before; --force does it again.")
    output.notes.line()
    where = f", {result.text}" if result.text else ""
    output.line(
        f"Held-out {result.objective} loss at sparsity {result.sparsity:.4g}"
        f"{_allocation(result)}, "
        f"{terms_of(result.objective).unit}{where}"
    )
    output.table(loss_table("mask", result, found="ticket", called=lambda name: _row(name, result)))
    for line in _claims(result):
        output.line(line)
    if result.steps:
        if result.stopped_early:
            output.line(
                "Stopped early, as --patience asks; the ticket is that of the last step. It "
                "stopped by the held-out text of the table, whose loss may be a little too good."
            )
        if asked and result.steps < asked and not result.stopped_early:
            output.line(
                f"Ended after {result.steps:,} of {count(asked, 'step')}, as --max-minutes asks; "
                "the ticket is that of the last step."
            )
        output.line(
            f"{count(result.steps, 'step')} in {duration(result.seconds)} "
            f"({result.tokens_per_second:,.0f} tokens/s), {result.flips:.1%} of the mask flipped"
        )
    if result.parameters:
        output.line(f"The encoder has {result.parameters}.")
    if result.latency:
        output.line(f"The exported model takes {result.latency}.")
        if result.latency.miss:
            output.line(result.latency.miss)
    output.line(f"ticket  {result.ticket} ({size(result.bytes)})")
    output.hint(f"next    tamtctl inspect {typed(result.ticket)}")


def _allocation(result: SearchResult) -> str:
    if result.allocation == UNIFORM:
        return ""
    return (
        f" ({result.allocation}: {parts_text(result.sparsities)}; baselines alike in every matrix)"
    )


def _row(name: str, result: SearchResult) -> str:
    """Return what the table calls a mask; the start is named by its criterion."""
    if name != START:
        return name
    of = result.init if result.method == TAMT else REFERENCE
    return f"start: {of}" + ("" if result.allocation == UNIFORM else f", {result.allocation}")


def _claims(result: SearchResult) -> Iterator[str]:
    """Yield what the losses say of the ticket, or why they say nothing."""
    if result.changed is False:
        start = f"that of {result.init}"
        if is_criterion(result.init):
            row = find_criterion(result.init)
            start = f"the {row.name} mask" + (" it started from" if row.has_seeds else "")
        yield f"The mask did not change: it is {start}."
    group, error = terms_of(result.objective).group_size, result.standard_errors["ticket"]
    if result.text and (line := result.text.why_unsure(group, error)):
        yield sentence(line)
    elif result.steps and result.changed is not False:
        yield from filter(None, [gap_closed(result.losses, result.standard_errors)])
