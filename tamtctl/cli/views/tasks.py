"""How fine-tuning and evaluation look on a screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tamtctl.cli.console import Page, PlainTable
from tamtctl.cli.views.words import error_text, place, typed
from tamtctl.foundations.counts import count
from tamtctl.tasks.kinds.table import direction

if TYPE_CHECKING:
    from tamtctl.tasks.evaluation.result import Evaluation, Labelled
    from tamtctl.tasks.finetuning.rate_search import RateSearch
    from tamtctl.tasks.finetuning.result import FinetunePlan, FinetuneResult


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
            "training": f"{count(plan.epochs, 'epoch')}, {count(plan.steps, 'step')} of "
            f"{task.batch_size} × up to {plan.max_length} tokens, learning rate "
            f"{_rate(plan)}, warm-up {plan.training.warm_up:.0%} ({plan.training.origin})",
            "seeds": ", ".join(map(str, plan.seeds)),
            "device": place(
                plan.compute.device.type,
                plan.compute.precision,
                world().size,
                torch.get_num_threads(),
            ),
            "run folder": str(plan.run_folder),
        }
    )


def _sparsity_of(run: FinetunePlan | FinetuneResult) -> str:
    """Return the sparsity that is kept, or that the checkpoint's own zeros are trained, too."""
    if run.ticket or run.zeros == "kept":
        return f"sparsity {run.sparsity:.4g}"
    return "dense" if run.zeros is None else "zeros trained"


def _rate(plan: FinetunePlan) -> str:
    """Return the learning rate, or the rates that are tried."""
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
    # A line instead of a title, which rich would fold to the width of the table.
    output.line(f"{result.task}, {result.model} {subject}: dev scores{chosen}")
    table = PlainTable("metric")
    for seed in result.seeds:
        table.add_column(f"seed {seed}", justify="right")
    table.add_column("mean", justify="right")
    table.add_column("std", justify="right")
    table.add_column("± s.e.", justify="right")
    if result.constant_answer is not None:  # None in runs of older versions
        table.add_column(constant_name(result.constant_answer), justify="right")
    dense = result.beside[0] if result.ticket and result.beside else None
    if dense:
        table.add_column("dense", justify="right")
    for name, metric in result.metrics.items():
        std = "-" if metric.std is None else f"{metric.std:.4f}"
        label = name + direction(name) + (" (dev-selected)" if result.dev_selected else "")
        cells = [label, *map(_score, metric.scores), _score(metric.mean), std]
        cells.append(error_text(metric.standard_error, 4))
        cells += [] if result.constant_answer is None else [_score(metric.constant)]
        cells += [_score(dense.metrics.get(name))] if dense else []
        table.add_row(*cells)
    output.table(table)
    for line in _beside_lines(result):
        output.line(line)
    for checkpoint in result.checkpoint:
        output.line(f"checkpoint  {checkpoint}")
    output.hint(f"next        tamtctl evaluate {typed(result.checkpoint[0])} --predict FILE")


def _beside_lines(result: FinetuneResult) -> Iterator[str]:
    """Yield the scores to compare with, and whether the runs learnt anything."""
    if result.constant_answer is not None:
        name = constant_name(result.constant_answer)
        yield f"{name:<11} {constant_line(result.constant_answer, 'training')}"
    for run in result.beside:
        spread = "" if run.std is None else f" (std {run.std:.4f})"
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
            epochs = count(result.epochs, "epoch")
            yield f"seed {seed} {how} {epochs}; epoch {reported} is reported"
    if result.untrained:
        yield result.untrained_line or ""


def _show_rates(output: Page, search: RateSearch) -> None:
    """Print what each learning rate scored on the held-out part of the training set."""
    output.line(f"learning rates tried: {search.metric} on {search.where}")
    table = PlainTable()
    for heading in ("learning rate", search.metric, "± s.e."):
        table.add_column(heading, justify="right")
    for one in search.tried:
        is_taken = one.learning_rate == search.learning_rate
        score = "diverged" if one.score is None else _score(one.score)
        row = [f"{one.learning_rate:g}", score, error_text(one.standard_error, 4)]
        table.add_row(*row, style="bold" if is_taken else None)
    output.table(table)
    for line in (f"learning rate {search.learning_rate:g} was taken", *search.remarks):
        output.line(line)


def constant_name(value: str | float) -> str:
    """Return what a table calls the constant answer: a class or text, or a number."""
    return "majority" if isinstance(value, str) else "constant"


def constant_line(value: str | float, split: str) -> str:
    """Return a line that says what the constant answer is, and where it was taken from."""
    if isinstance(value, str):
        return f"always {value!r}, the most frequent of the {split} examples"
    return f"always {value:.4g}, the mean answer of the {split} examples"


def _score(value: float | None) -> str:
    """Return a score with four decimals, and no minus before a zero."""
    return "–" if value is None else f"{round(value, 4) + 0.0:.4f}"


def show_evaluation(output: Page, result: Evaluation) -> None:
    """Print the scores."""
    scored = str(result.text or f"{result.data} ({count(result.examples, 'example')})")
    facts = {"task": result.task, "data": scored}
    if result.sequences and result.text and result.text.rows:
        facts["sequences"] = str(result.sequences)
    if result.sparsity is not None:
        facts["sparsity"] = f"{result.sparsity:.4g}"
    if result.head:
        facts["head"] = result.head
    if result.embeddings:
        facts["embeddings"] = result.embeddings
    label = " (dev-selected)" if result.dev_selected else ""
    for name, value in result.metrics.items():
        shown = f"{_score(value)} ± {error_text(result.standard_errors[name], 4)} s.e."
        if name in result.intervals:
            shown += f", 95 % from {' to '.join(map(_score, result.intervals[name]))}"
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


def show_notes(output: Page, labelled: Labelled) -> None:
    """Print notes on predictions that a person should read."""
    for note in labelled.notes:
        output.notes.line(note)


def show_labelled(output: Page, labelled: Labelled, *, with_confidence: bool = False) -> None:
    """Print notes, then a line for each text: the prediction, a tab, the text.

    For tagged words, print a line for each word with its prediction, and a blank line after a text.

    Args:
        output: Where it is printed.
        labelled: What was predicted.
        with_confidence: Print the prediction's probability behind it; the cell is empty where
            there is none, as for a number.
    """
    show_notes(output, labelled)
    rows = zip(labelled.predictions, labelled.confidences, labelled.texts, strict=True)
    for prediction, confidence, texts in rows:
        if not isinstance(texts[0], str):
            for word, its_prediction, share in zip(*texts, prediction, confidence, strict=True):
                sure = ["" if share is None else f"{share:.4f}"] if with_confidence else []
                output.row(word, its_prediction, *sure)
            output.row("")
            continue
        shown = f"{prediction:.8g}" if isinstance(prediction, float) else str(prediction)
        sure = [_probability(prediction, confidence)] if with_confidence else []
        output.row(shown, *sure, *texts)


def _probability(prediction: Any, confidence: Any) -> str:
    """Return the probability of a prediction; nothing if there is none."""
    return f"{confidence[prediction]:.4f}" if isinstance(confidence, Mapping) else ""
