"""What a person or a program sees of plans and results: tables, plain lines, JSON, or little."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tamtctl.cli.pace import duration
from tamtctl.cli.page import Page, PlainTable, opened
from tamtctl.cli.views.claims import gap_closed
from tamtctl.foundations import printable
from tamtctl.foundations.quantities import size
from tamtctl.foundations.signals import answer_by
from tamtctl.pruning.objectives import terms_of
from tamtctl.tasks.kinds.table import direction

if TYPE_CHECKING:
    from tamtctl.comparison.result import Comparison
    from tamtctl.comparison.sweep import PlannedRun
    from tamtctl.pruning.searching.run import SearchPlan, SearchResult
    from tamtctl.tasks.evaluation.api import Evaluation, Labelled
    from tamtctl.tasks.finetuning.rate_search import RateSearch
    from tamtctl.tasks.finetuning.result import FinetunePlan, FinetuneResult
    from tamtctl.ticket.exporting import ExportResult
    from tamtctl.ticket.hub.catalogue import PublishedTicket
    from tamtctl.ticket.hub.pulling import PullResult
    from tamtctl.ticket.importing import ImportResult
    from tamtctl.ticket.sharing import PushResult

__all__ = ["Output", "Page", "PlainTable"]


class Output(Page):
    """What a command says: results on stdout; notes and progress on stderr, in every mode.

    Args:
        as_json: Print one JSON object on stdout; the result for people goes to stderr, too.
        quiet: Print nothing but the result's essence.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        notes = Page(opened(sys.stderr), quiet=quiet)
        super().__init__(opened(sys.stderr if as_json else sys.stdout), quiet=quiet)
        self.as_json, self.notes = as_json, notes
        answer_by(notes.line if not quiet else None)

    def note(self, text: str) -> None:
        """Say a line that is no line of the result."""
        self.notes.line(text)

    def result(self, value: Mapping[str, Any], essence: str) -> None:
        """Print the JSON object, or in quiet mode the one line that a script wants."""
        if self.as_json:
            text = json.dumps(_without_nan(value), indent=2, allow_nan=False)
            print(text)  # noqa: T201, stdout is the interface here
        elif self.quiet:
            print("\n".join(map(printable.line, essence.split("\n"))))  # noqa: T201


def _without_nan(value: Any) -> Any:
    """Return JSON values with null for what is no finite number, for which JSON has no name."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_comparison_plan(output: Page, plan: Sequence[PlannedRun]) -> None:
    """Print the runs of a sweep, and what is left to do."""
    table = PlainTable("run", "state")
    table.add_column("steps", justify="right")
    table.add_column("training", justify="right")
    for run in plan:
        left = [f"{run.steps:,}", duration(run.estimated_seconds)] if run.steps else ["–", "–"]
        table.add_row(str(run.cell), run.state, *left)
    output.table(table)
    todo = sum(run.state != "done" for run in plan)
    seconds = sum(run.estimated_seconds for run in plan)
    output.line(f"{todo} of {_count(len(plan), 'run')} to do, training about {duration(seconds)}")


def show_comparison(output: Page, comparison: Comparison) -> None:
    """Print the table of results, what it says, and where the report is."""
    from tamtctl.comparison.report import REPORT, first_tables

    output.notes.line()
    for text in comparison.texts:
        output.line(f"Held-out text: {text}")
    for table in first_tables(comparison):
        shown = PlainTable(*table.heading[: table.words])
        for column in table.heading[table.words :]:
            shown.add_column(column, justify="right")
        for row in table.rows:
            shown.add_row(*row)
        output.table(shown)
    for sentence in comparison.sentences:
        output.line(sentence)
    for cell, why in comparison.left_out.items():
        output.line(f"left out: {cell}: {why}")
    output.line(f"report  {comparison.folder / REPORT}")


def show_plan(output: Page, plan: SearchPlan) -> None:
    """Print what a search will do."""
    config = plan.config
    train = "streamed" if plan.train_tokens is None else f"{_tokens(plan.train_tokens)} tokens"
    training = (
        f"{_count(plan.steps, 'step')} of {config.batch_size} × {config.sequence_length} tokens, "
        + (f"{plan.resumed_from:,} of them done, " if plan.resumed_from else "")
        + f"about {duration(plan.estimated_seconds)}"
        if plan.steps
        else "none, a one-shot mask"
    )
    output.facts(
        {
            "model": f"{config.model} ({plan.model_type})",
            "corpus": f"{' '.join(config.corpus)} ({train}, "
            f"{_tokens(plan.held_out_tokens)} held out)",
            "method": f"{config.method}, objective {config.objective}, seed {config.seed}",
            "mask": f"{plan.weights:,} weights in {plan.matrices} matrices, "
            f"sparsity {config.sparsity:g} in each",
            "training": training,
            "device": _place(plan.device, plan.precision, plan.processes, plan.threads),
            "run folder": str(plan.run_folder),
        }
    )
    for warning in plan.warnings:
        output.notes.line(warning)


def show_search_result(output: Page, result: SearchResult) -> None:
    """Print the table of losses, the ticket, and what to type next."""
    if result.already_done:
        output.hint("This search was done before; --force does it again.")
    output.notes.line()
    where = f", {result.text}" if result.text else ""
    output.line(
        f"Held-out {result.objective} loss at sparsity {result.sparsity:.4g}, "
        f"{terms_of(result.objective).unit}{where}"
    )
    table = PlainTable("mask")
    table.add_column("loss", justify="right")
    table.add_column("± s.e.", justify="right")
    if result.check_losses:
        table.add_column("check corpus", justify="right")
    for name, loss in result.losses.items():
        row = [name, f"{loss:.3f}", _shown(result.standard_errors[name], 3)]
        if result.check_losses:
            row.append(f"{result.check_losses[name]:.3f}")
        style = "bold" if name == "ticket" else None
        table.add_row(*row, style=style)
    output.table(table)
    for line in _claims(result):
        output.line(line)
    if result.steps:
        if result.stopped_early:
            output.line("Stopped early, as --patience asks; the ticket is that of the last step.")
        output.line(
            f"{_count(result.steps, 'step')} in {duration(result.seconds)} "
            f"({result.tokens_per_second:,.0f} tokens/s), {result.flips:.1%} of the mask flipped"
        )
    output.line(f"ticket  {result.ticket} ({size(result.bytes)})")
    output.hint(f"next    tamtctl inspect {result.ticket}")


def _claims(result: SearchResult) -> Iterator[str]:
    """Yield what the losses say of the ticket, or why they say nothing."""
    if result.changed is False:
        starts = {"magnitude": "the magnitude mask", "random": "the random mask it started from"}
        start = starts.get(result.init, f"that of {result.init}")
        yield f"The mask did not change: it is {start}."
    if result.text and (line := result.text.too_few):
        yield line[0].upper() + line[1:] + "."
    elif result.steps and result.changed is not False:
        yield from filter(None, [gap_closed(result.losses, result.standard_errors)])


def _shown(error: float | None, digits: int) -> str:
    """Return a standard error, or a dash where there is none."""
    return "–" if error is None or math.isnan(error) else f"{error:.{digits}f}"


def _place(device: str, precision: str, processes: int, threads: int) -> str:
    from tamtctl.foundations.devices import (
        precision_hint,  # and with it torch, which help can do without
    )

    together = f"{_count(processes, 'process', 'processes')} × " if processes > 1 else ""
    where = f"{device}, {precision}" + precision_hint(device, precision)
    return f"{where}, {together}{_count(threads, 'thread')}"


def show_finetune_plan(output: Page, plan: FinetunePlan) -> None:
    """Print what fine-tuning will do."""
    import torch

    from tamtctl.foundations.distributed import world

    task = plan.task
    subject = plan.model + (f" with ticket {plan.ticket}" if plan.ticket else "")
    subject += f", {_sparsity_of(plan)}"
    subject += ", its own zeros" if plan.zeros == "kept" and not plan.ticket else ""
    output.facts(
        {
            "task": f"{task.name}: {task.summary} ({plan.labels})",
            "model": subject,
            "data": f"{plan.data} ({plan.train_examples:,} to train on, {plan.dev_examples:,} dev"
            + (", held out of it)" if plan.has_made_dev else ")"),
            "training": f"{_count(plan.epochs, 'epoch')}, {_count(plan.steps, 'step')} of "
            f"{task.batch_size} × up to {plan.max_length} tokens, learning rate "
            f"{_rate(plan)}, warm-up {plan.training.warm_up:.0%} ({plan.training.origin})",
            "seeds": ", ".join(map(str, plan.seeds)),
            "device": _place(
                plan.compute.device.type,
                plan.compute.precision,
                world().size,
                torch.get_num_threads(),
            ),
            "run folder": str(plan.run_folder),
        }
    )


def _sparsity_of(run: FinetunePlan | FinetuneResult) -> str:
    """Say how sparse the model stays, or that zeros that it brought along are trained."""
    if run.ticket or run.zeros == "kept":
        return f"sparsity {run.sparsity:.4g}"
    return "dense" if run.zeros is None else "zeros trained"


def _rate(plan: FinetunePlan) -> str:
    """Return the learning rate, or those that it is found among."""
    if not plan.rates:
        return f"{plan.task.learning_rate:g}"
    return f"the best of {', '.join(f'{rate:g}' for rate in plan.rates)}"


def show_finetune_result(output: Page, result: FinetuneResult) -> None:
    """Print the table of scores, the checkpoints, and what to type next."""
    if result.already_done:
        output.hint("This run was done before; --force does it again.")
    elif result.resumed_from:
        output.hint(f"{result.resumed_from} of {len(result.seeds)} seeds had been done before.")
    subject = _sparsity_of(result)
    chosen = ", best epoch SELECTED ON THE DEV SET" if result.dev_selected else ""
    if result.selected_on and not result.dev_selected:
        chosen = f", best epoch on {result.selected_on}"
    if result.rate_search:
        _show_rates(output, result.rate_search)
    # No title of the table, which would be folded to its width.
    output.line(f"{result.task}, {result.model} {subject}: dev scores{chosen}")
    table = PlainTable("metric")
    for seed in result.seeds:
        table.add_column(f"seed {seed}", justify="right")
    table.add_column("mean", justify="right")
    table.add_column("std", justify="right")
    table.add_column("± s.e.", justify="right")
    if result.constant_answer is not None:  # else the run is of an older version
        table.add_column(constant_name(result.constant_answer), justify="right")
    dense = result.beside[0] if result.ticket and result.beside else None
    if dense:
        table.add_column("dense", justify="right")
    for name, metric in result.metrics.items():
        std = "-" if metric.std is None else f"{metric.std:.4f}"
        label = name + direction(name) + (" (dev-selected)" if result.dev_selected else "")
        cells = [label, *map(_score, metric.scores), _score(metric.mean), std]
        cells.append(_shown(metric.standard_error, 4))
        cells += [] if result.constant_answer is None else [_score(metric.constant)]
        cells += [_score(dense.metrics.get(name))] if dense else []
        table.add_row(*cells)
    output.table(table)
    for line in _beside_lines(result):
        output.line(line)
    for checkpoint in result.checkpoint:
        output.line(f"checkpoint  {checkpoint}")
    output.hint(f"next        tamtctl evaluate {result.checkpoint[0]} --predict FILE")


def _beside_lines(result: FinetuneResult) -> Iterator[str]:
    """Yield what a result stands beside, and whether it is one at all."""
    if result.constant_answer is not None:
        name = constant_name(result.constant_answer)
        yield f"{name:<11} {constant_line(result.constant_answer, 'training')}"
    for run in result.beside:
        spread = "" if run.std is None else f" ± {run.std:.4f}"
        name = "" if run.ticket is None else f"{run.ticket}, sparsity {run.sparsity:.4g}: "
        label = "dense       " if run.ticket is None else "ticket      "
        yield f"{label}{name}{result.metric} {run.mean:.4f}{spread} ({run.run_folder})"
    if result.patience:
        for seed, early, done, reported in zip(
            result.seeds,
            result.stopped_early,
            result.epochs_done,
            result.reported_epochs,
            strict=True,
        ):
            how = f"stopped early, after {done} of" if early else "did not stop early, in"
            epochs = _count(result.epochs, "epoch")
            yield f"seed {seed} {how} {epochs}; epoch {reported} is reported"
    if result.untrained:
        yield result.untrained_line or ""


def _show_rates(output: Page, search: RateSearch) -> None:
    """Print what each learning rate scored on what was held out."""
    output.line(f"learning rates tried: {search.metric} on {search.where}")
    table = PlainTable()
    for heading in ("learning rate", search.metric, "± s.e."):
        table.add_column(heading, justify="right")
    for one in search.tried:
        is_taken = one.learning_rate == search.learning_rate
        score = "diverged" if one.score is None else _score(one.score)
        row = [f"{one.learning_rate:g}", score, _shown(one.standard_error, 4)]
        table.add_row(*row, style="bold" if is_taken else None)
    output.table(table)
    for line in (f"learning rate {search.learning_rate:g} was taken", *search.remarks):
        output.line(line)


def constant_name(value: str | float) -> str:
    """Return what a table calls the answer that needs no model: a class, or an answer's text."""
    return "majority" if isinstance(value, str) else "constant"


def constant_line(value: str | float, split: str) -> str:
    """Return what the constant answer is that scores are set beside."""
    if isinstance(value, str):
        return f"always {value!r}, the most frequent of the {split} examples"
    return f"always {value:.4g}, the mean of the {split} labels"


def _score(value: float | None) -> str:
    """Return a score with four decimals, and no minus before a zero."""
    return "–" if value is None else f"{round(value, 4) + 0.0:.4f}"


def show_evaluation(output: Page, result: Evaluation) -> None:
    """Print the scores."""
    scored = str(result.text or f"{result.data} ({_count(result.examples, 'example')})")
    facts = {"task": result.task, "data": scored}
    if result.sparsity is not None:
        facts["sparsity"] = f"{result.sparsity:.4g}"
    if result.head:
        facts["head"] = result.head
    if result.embeddings:
        facts["embeddings"] = result.embeddings
    label = " (dev-selected)" if result.dev_selected else ""
    for name, value in result.metrics.items():
        shown = f"{_score(value)} ± {_shown(result.standard_errors[name], 4)} s.e."
        beside = [result.units[name]] if name in result.units else []
        if name in result.constant_scores:
            answer = constant_name(result.constant_answer or 0.0)
            beside.append(f"{answer} {_score(result.constant_scores[name])}")
        for run in result.beside:
            what = "dense" if run.ticket is None else f"ticket {run.ticket}"
            beside.append(f"{what} {_score(run.metrics.get(name))}")
        facts[name + direction(name) + label] = shown + (
            f" ({', '.join(beside)})" if beside else ""
        )
    if result.constant_answer is not None and result.constant_split:
        line = constant_line(result.constant_answer, result.constant_split)
        facts[constant_name(result.constant_answer)] = line
    output.facts(facts)
    for note in result.notes:
        output.notes.line(note)


def show_labelled(output: Page, labelled: Labelled) -> None:
    """Print a prediction and its text a line, a tab between them; notes come before."""
    for note in labelled.notes:
        output.notes.line(note)
    for prediction, texts in zip(labelled.predictions, labelled.texts, strict=True):
        shown = f"{prediction:.8g}" if isinstance(prediction, float) else str(prediction)
        output.row(shown, *texts)


def show_push(output: Page, result: PushResult) -> None:
    """Print what was or would be published, and what to type next."""
    _show_files(output, result.files)
    for note in result.notes:
        output.notes.line(f"note    {note}")
    if result.dry_run:
        output.line(f"would be pushed to {result.url}; nothing was sent")
        return
    output.line(f"{'pushed ' if result.changed else 'unchanged, no new commit'} {result.url}")
    output.hint(f"next    tamtctl pull {result.repo}")


def show_pull(output: Page, result: PullResult) -> None:
    """Print what was or would be fetched, and what to type next."""
    _show_files(output, result.files)
    if result.dry_run:
        output.line(f"would be pulled at {result.commit}; nothing was fetched")
        return
    if result.from_cache:
        output.hint("The Hub cannot be reached; this is the copy fetched earlier.")
    output.line(f"commit  {result.commit}")
    output.line(f"ticket  {result.path} (verified)")
    output.hint(f"next    tamtctl inspect {result.path}")


def show_export(output: Page, result: ExportResult) -> None:
    """Print what was written, how to load it, and what not to expect of it."""
    share = result.zeros / max(result.weights, 1)  # the pooler's alone may be in no such class
    of_all = result.zeros / result.parameters
    kept = f" with {', '.join(result.modules)}" if result.modules else ""
    output.facts(
        {
            "checkpoint": f"{result.path} ({result.model_class}{kept}, {size(result.bytes)})",
            "head": f"{result.head}: {result.head_reason}",
            "zeros": f"{result.zeros:,} of {result.weights:,} weights in the masked matrices "
            f"({share:.1%}; {of_all:.1%} of all)",
        }
    )
    if result.skipped:
        output.line(f"not in this class: {', '.join(result.skipped)}")
    if result.unused:
        output.line(f"without the base model's {_first(result.unused)}")
    if result.new:
        output.line(f"random until trained: {', '.join(result.new)}")
    if result.left_out:
        output.line(f"not copied: {_first(result.left_out)}")
    for line in result.notes:
        output.notes.line(line)
    output.line(
        f"It was loaded again and gives the same {result.checked}. Zeros are stored like other"
    )
    output.line(
        "numbers: spread over a matrix, they do not by themselves make a model smaller or faster."
    )
    output.line(f"load  {result.load}")


def _first(names: Sequence[str], most: int = 8) -> str:
    """Return the first of many names."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def show_import(output: Page, result: ImportResult) -> None:
    """Print what was read, and what to type next."""
    output.facts(
        {
            "read": result.kind + (f" ({result.file})" if result.file else ""),
            "mask": f"sparsity {result.sparsity:.4f} in {result.matrices} matrices",
            "encoding": f"{result.encoding}, {size(result.bytes)}",
        }
    )
    if result.dense:
        shown = ", ".join(result.dense[:3]) + (" …" if len(result.dense) > 3 else "")
        output.line(f"not masked: {len(result.dense)} matrices of the model ({shown})")
    if result.ignored:
        output.line(f"ignored: {result.ignored} tensors that are of no maskable matrix")
    for prefix in result.other_prefixes:
        chosen = result.prefix or "no prefix"
        output.line(f"not read: the copy under {prefix or 'no prefix'} (read: {chosen})")
    if result.not_read:
        output.line(f"not read: {', '.join(result.not_read)}; transformers loads {result.file}")
    for line in filter(None, (result.remark, result.base_model)):
        output.notes.line(line)
    output.line(f"ticket  {result.ticket}")
    output.hint(f"next    tamtctl inspect {result.ticket}")


def show_published(output: Page, tickets: list[PublishedTicket]) -> None:
    """Print a listing of the Hub."""
    table = PlainTable("ticket", "base model", "updated")
    for column in ("downloads", "likes"):
        table.add_column(column, justify="right")
    for ticket in tickets:
        row = [ticket.repo, ticket.base_model, ticket.updated]
        table.add_row(*row, str(ticket.downloads), str(ticket.likes))
    output.table(table)


def _show_files(output: Page, files: Mapping[str, int]) -> None:
    for name, count in files.items():
        output.line(f"{size(count):>10}  {name}")


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} " + (noun if number == 1 else plural or f"{noun}s")


def _tokens(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
