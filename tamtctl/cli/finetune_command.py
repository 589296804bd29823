"""``tamtctl finetune``: train a ticket on a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tamtctl.cli.options import (
    CheckpointOption,
    DataDirOption,
    DebugOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    TextColumnsOption,
    ThreadsOption,
    listed,
)
from tamtctl.cli.screen import hush_hub, hush_libraries, output_of, selected
from tamtctl.foundations import printable
from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.finetuning.config import SELECTIONS, FinetuneConfig
from tamtctl.tasks.kinds.table import own_kinds
from tamtctl.tasks.registry import TASKS


def finetune(
    task: Annotated[
        str | None,
        typer.Argument(help="A task; with --train, a name for your own."),
    ] = None,
    ticket: Annotated[
        str | None,
        typer.Option(
            help="Folder, packaged name or Hub id; by default the newest under runs/, else the "
            "packaged one at sparsity 0.7."
        ),
    ] = None,
    dense: Annotated[bool, typer.Option("--dense", help="The full model, no ticket.")] = False,
    keep_zeros: Annotated[
        bool | None,
        typer.Option(
            "--keep-zeros/--no-keep-zeros",
            help="Without a ticket: keep the zeros that the model brings along, or train them like "
            "all others; by default those of a pruned model are kept.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Hub id, folder, or nano; by default the ticket's.")
    ] = None,
    data_dir: DataDirOption = None,
    train: Annotated[
        str | None,
        typer.Option(help="Labelled examples of your own task: tsv, csv, jsonl or parquet."),
    ] = None,
    dev: Annotated[
        str | None,
        typer.Option(
            help="The examples to score it on; by default a fifth of --train (at most 5,000) that "
            "is held out: a stable one, of every class alike, duplicates together."
        ),
    ] = None,
    text_column: TextColumnsOption = None,
    label_column: Annotated[str, typer.Option(help="Column of the label.")] = "label",
    label_kind: Annotated[
        str | None,
        typer.Option(help=f"{' or '.join(own_kinds())}; by default as the labels look."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Train on so many examples; smaller sets are part of larger ones."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Rate, epochs and warm-up: auto, by the model's width and the examples, or paper, "
            "for BERT-base."
        ),
    ] = "auto",
    epochs: Annotated[int | None, typer.Option(help="By default the recipe's.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak rate; by default the recipe's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples per step; by default the task's.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens per example, the rest is cut; by default the task's, or as many as the "
            "model and its tokenizer are made for."
        ),
    ] = None,
    select: Annotated[
        str,
        typer.Option(
            help=f"Checkpoint to report: {' or '.join(SELECTIONS)}. The best epoch is selected on "
            "the dev set itself, and its scores say so."
        ),
    ] = "last",
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many epochs in a row without a better score on a fifth of the "
            "training set that is held out for it, and report the best epoch; with --select best, "
            "on the dev set."
        ),
    ] = None,
    find_learning_rate: Annotated[
        bool,
        typer.Option(
            "--find-learning-rate",
            help="Try a tenth, a third, one, three and ten times the usual rate on a fifth of the "
            "training set that is held out, for a fifth of the steps (at least 500), and train "
            "with the best.",
        ),
    ] = False,
    seeds: Annotated[str, typer.Option(help="One run each, for example 1,2,3.")] = "1",
    checkpoint_every: CheckpointOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="The run's folder; by default one under runs/.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Redo a finished run.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Fine-tune a ticket, or the dense model, on a task, and score it."""
    if task is None and not (train or dev):
        raise UsageError(f"which task? one of {', '.join(TASKS)}, or --train of your own")
    config = FinetuneConfig(
        task=task or "own",
        ticket=ticket,
        dense=dense,
        keep_zeros=keep_zeros,
        model=model,
        data_dir=data_dir,
        train=train,
        dev=dev,
        text_columns=tuple(text_column or ["text"]),
        label_column=label_column,
        label_kind=label_kind,
        limit=limit,
        recipe=recipe,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        select=select,
        patience=patience,
        find_learning_rate=find_learning_rate,
        seeds=listed("seeds", seeds, int),
        checkpoint_every=checkpoint_every,
        precision=precision,
        device=device,
        threads=threads,
    )
    output = output_of(as_json, quiet)
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.console import show_finetune_result
    from tamtctl.cli.views.progress import FinetuneView
    from tamtctl.tasks.finetuning import run as finetuning
    from tamtctl.tasks.finetuning.starting_point import with_default_ticket

    config, chosen = with_default_ticket(config)
    output.note(chosen)
    view = FinetuneView(output)
    try:
        result = finetuning.finetune(config, output_dir=output_dir, force=force, watcher=view)
    finally:
        view.close()
    show_finetune_result(output, result)
    if quiet and result.untrained_line:  # a score that means nothing is not passed on in silence
        typer.echo(printable.line(result.untrained_line), err=True)
    output.result(result.to_dict(), f"{result.mean:.4f}" + selected(result.dev_selected))
