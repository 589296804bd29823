"""How a recovery looks on a screen: its plan, and its loss beside the ticket's and the dense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tamtctl.cli.console import Page
from tamtctl.cli.pace import duration
from tamtctl.cli.views.loss_table import loss_table
from tamtctl.cli.views.words import place, sentence, typed, unsure_gap
from tamtctl.foundations.counts import count
from tamtctl.foundations.folders import size
from tamtctl.pruning.objectives import terms_of

if TYPE_CHECKING:
    from tamtctl.pruning.recovery.result import RecoverPlan, RecoverResult


def show_recover_plan(output: Page, plan: RecoverPlan) -> None:
    """Print what a recovery will do."""
    config = plan.config
    asked = "" if config.minutes is None else f", as many as fit in {config.minutes:g} minutes"
    output.facts(
        {
            "ticket": f"{config.ticket} (sparsity {plan.sparsity:.4g})",
            "model": plan.base_model,
            "corpus": " ".join(config.corpus),
            "sequences": str(plan.train_sequences),
            "training": f"{count(plan.steps, 'step')} of {config.batch_size} sequences{asked}, "
            + (f"{plan.resumed_from:,} of them done, " if plan.resumed_from else "")
            + f"about {duration(plan.estimated_seconds)}",
            "objective": f"{config.objective}, {plan.trained:,} weights are trained",
            "device": place(plan.device, plan.precision, 1, plan.threads),
            "run folder": str(plan.run_folder),
        }
    )


def show_recovery(output: Page, result: RecoverResult) -> None:
    """Print the table of losses, the checkpoint, and what to type next."""
    if result.already_done:
        output.hint("This recovery was done before; --force does it again.")
    output.notes.line()
    output.line(
        f"Held-out {result.objective} loss at sparsity {result.sparsity:.4g}, "
        f"{terms_of(result.objective).unit}, {result.text}"
    )
    output.table(loss_table("weights", result, found="recovered"))
    for line in _claims(result):
        output.line(line)
    zeros = f"all {result.zeros:,} zeros kept" if result.zeros else "what is pruned is cut out"
    output.line(
        f"{count(result.steps, 'step')} in {duration(result.seconds)} "
        f"({result.tokens_per_second:,.0f} tokens/s); {zeros}"
    )
    output.line(f"model   {result.model} ({size(result.bytes)})")
    output.line(f"load    {result.load}")
    output.hint(f"next    tamtctl finetune TASK --model {typed(result.model)}")


def _claims(result: RecoverResult) -> Iterator[str]:
    """Yield what the losses say, or why they say nothing."""
    group, error = terms_of(result.objective).group_size, result.standard_errors["recovered"]
    if line := result.text.why_unsure(group, error):
        yield sentence(line)
        return
    dense, ticket, recovered = result.losses.values()
    if ticket <= dense:
        return
    errors, by = result.standard_errors, "the recovered weights close"
    if unsure := unsure_gap(result.losses, errors, "ticket", "the ticket", by):
        yield unsure
        return
    closed = (ticket - recovered) / (ticket - dense)
    if closed > 1:
        yield "The recovered weights' loss is below that of the dense model: they learnt the text."
    elif closed > 0:
        share = f"{closed:.0%}" if closed >= 0.005 else "less than 1%"
        yield f"The recovered weights close {share} of the gap from the ticket to dense."
    else:
        yield "The recovered weights are no better than the ticket's: train longer, or slower."
