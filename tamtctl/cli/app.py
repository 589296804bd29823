"""The command line: its commands and options, and the boundary at which errors become one line.

Imports nothing heavy at the top, so that ``tamtctl --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from tamtctl.comparison.config import (
    BUDGETS,
    DEFAULT_METHODS,
    SWEEP_METHODS,
    CompareConfig,
    parse_shard,
)
from tamtctl.foundations import printable
from tamtctl.foundations.config import DEVICES, PRECISIONS
from tamtctl.foundations.errors import TamtctlError, UsageError, explain
from tamtctl.foundations.launch import check_launch, world_size
from tamtctl.foundations.paths import check_working_directory, expanded
from tamtctl.foundations.signals import Answering, answer_by
from tamtctl.pruning.config import LOGS, OBJECTIVES, SearchConfig, derived_config
from tamtctl.pruning.recipes import METHODS, RECIPES
from tamtctl.tasks.evaluation.config import HEADS, EvaluateConfig
from tamtctl.tasks.finetuning.config import LABEL_KINDS, SELECTIONS, FinetuneConfig
from tamtctl.tasks.registry import STSB_ZERO_SHOT, TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from tamtctl.cli.console import Output

_Value = TypeVar("_Value")

app = typer.Typer(
    name="tamtctl",
    help="Find, compare, fine-tune and share lottery tickets of pre-trained encoders.",
    epilog="Start with: tamtctl search --recipe nano --sparsity 0.8",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)

PARALLEL_COMMANDS = ("search", "finetune")  # what torchrun may start
LOOKING_COMMANDS = ("env", "list", "inspect")  # what a strange environment must not keep from us

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print only the essential line.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DeviceOption = Annotated[str, typer.Option(help=f"One of {', '.join(DEVICES)}.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads of each process.", min=1)]
TokenOption = Annotated[
    str | None,
    typer.Option(help="Hub token; by default that of hf auth login, or HF_TOKEN."),
]
TicketArgument = Annotated[
    str, typer.Argument(help="A ticket: its folder, packaged name or Hub id org/name[@revision].")
]
EncodingOption = Annotated[
    str | None,
    typer.Option(help="How to store the masks: bits, zstd, or delta (needs the base model)."),
]
BaseModelOption = Annotated[
    str | None,
    typer.Option(
        help="What a model in a local folder is on the Hub: org/name[@revision]. Its weights are "
        "compared with those in the Hub's cache, if they are there."
    ),
]
DataDirOption = Annotated[
    str | None,
    typer.Option(
        help="Folder of the task's files, or GLUE's of all tasks: tsv, jsonl, csv, parquet, or "
        "SQuAD's json; by default they come from the Hub."
    ),
]
TextColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--text-column", help="Column of the text; give it twice for pairs."),
]
PrecisionOption = Annotated[str, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")]
CheckpointOption = Annotated[
    int | None, typer.Option(help="Steps between checkpoints; by default, every 5 minutes.")
]
SeedOption = Annotated[
    int | None,
    typer.Option(help="Of noise, order, random masks and dropout; by default the recipe's, or 1."),
]
RecipeDeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help=f"One of {', '.join(DEVICES)}; by default the recipe's, or auto."
    ),
]


def _shown_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"tamtctl {importlib.metadata.version('tamtctl')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_shown_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Find, compare, fine-tune and share lottery tickets of pre-trained encoders."""
    if context.invoked_subcommand is None:
        from tamtctl.cli.start import show_start

        show_start()
        return
    if context.invoked_subcommand in LOOKING_COMMANDS:
        return
    check_working_directory()
    check_launch()
    if world_size() > 1 and context.invoked_subcommand not in PARALLEL_COMMANDS:
        raise UsageError(
            f"{context.invoked_subcommand} runs in one process; start it without torchrun"
        )


@app.command(
    epilog="Example: tamtctl search --sparsity 0.8 --model bert-base-uncased "
    "--corpus my-text.txt --objective kd"
)
def search(
    sparsity: Annotated[
        float | None, typer.Option(help="Share of zeros in every matrix, in [0, 1).")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hub id, folder, or nano.")] = None,
    base_model: BaseModelOption = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Text to train on: python-docs, a file (txt, gz, xz, jsonl, parquet), a folder, "
            "or a Hub dataset id[:config]. May be given several times."
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Read the corpus, a Hub dataset, while training on it: for one too large for the "
            "disk. The learning rate falls over --steps.",
        ),
    ] = False,
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Text to evaluate on; by default a stable tenth of the corpus."),
    ] = None,
    check_corpus: Annotated[
        list[str] | None,
        typer.Option(help="Evaluate on the held-out tenth of a second domain besides."),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text in jsonl, parquet and datasets.")
    ] = None,
    method: Annotated[str | None, typer.Option(help=f"One of {', '.join(METHODS)}.")] = None,
    objective: Annotated[str | None, typer.Option(help=f"One of {', '.join(OBJECTIVES)}.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Initial mask: magnitude, random, or a ticket.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"Preset: {', '.join(RECIPES)}, or a TOML file of settings."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; not of imp.")] = None,
    prune_every: Annotated[
        int | None, typer.Option(help="imp: steps between two cuts of 10 % of the weights.")
    ] = None,
    rewind: Annotated[
        str | None,
        typer.Option(
            help="imp: after a cut, go back to the pre-trained weights, or train on (none)."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences per step.")] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Sequences per forward pass (gradient accumulation).")
    ] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Tokens per sequence.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak rate of the scores, or of the weights (imp).")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop training after so long.")] = None,
    checkpoint_every: CheckpointOption = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations on held-out text.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many evaluations in a row without a lower loss."),
    ] = None,
    log_to: Annotated[
        str | None, typer.Option(help=f"Besides metrics.jsonl: {', '.join(LOGS)}.")
    ] = None,
    keep_scores: Annotated[
        bool, typer.Option("--keep-scores", help="Keep the trained scores in the run's folder.")
    ] = False,
    from_scores: Annotated[
        str | None,
        typer.Option(
            help="The folder of a search that kept its scores: derive the ticket of --sparsity "
            "from them, without training. All else is as it was there."
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")] = None,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the encoder: minutes at first, then faster steps on a GPU."
        ),
    ] = False,
    low_memory: Annotated[
        bool,
        typer.Option(
            "--low-memory",
            help="On a CPU, keep the frozen weights in a file and Adam's first moments in "
            "bfloat16: 14 bytes per weight instead of 20, where dense training takes 16.",
        ),
    ] = False,
    device: RecipeDeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="The run's folder; by default one under runs/.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Redo a finished run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and stop.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find a ticket: train a mask over the frozen weights of an encoder on unlabelled text."""
    # Without --recipe, which one it is depends on a GPU; but a wrong value is wrong with either.
    asked = {
        "sparsity": sparsity,
        "model": model,
        "base_model": base_model,
        "corpus": tuple(corpus) if corpus else None,
        "stream": stream or None,
        "held_out": tuple(held_out) if held_out else None,
        "check_corpus": tuple(check_corpus) if check_corpus else None,
        "text_column": text_column,
        "method": method,
        "objective": objective,
        "init": init,
        "steps": steps,
        "prune_every": prune_every,
        "rewind": rewind,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "sequence_length": sequence_length,
        "learning_rate": learning_rate,
        "max_minutes": max_minutes,
        "checkpoint_every": checkpoint_every,
        "eval_every": eval_every,
        "patience": patience,
        "log_to": log_to,
        "keep_scores": keep_scores or None,
        "precision": precision,
        "compile": compile_ or None,
        "low_memory": low_memory or None,
        "device": device,
        "threads": threads,
        "seed": seed,
    }
    config = (
        SearchConfig.from_recipe(recipe or "nano", **asked)
        if from_scores is None
        else _derived(from_scores, recipe, asked)
    )
    output = _output(as_json, quiet)
    _hush_hub(output)
    _hush_libraries()
    from tamtctl.cli.console import show_plan, show_search_result
    from tamtctl.cli.views.progress import SearchView
    from tamtctl.pruning.searching import run as searching

    if recipe is None and from_scores is None:
        recipe, why = searching.default_recipe(config)
        output.note(f"recipe {recipe}: {why}")
        config = SearchConfig.from_recipe(recipe, **asked)
    view = SearchView(output)
    try:
        if dry_run:
            plan = searching.plan_search(config, output_dir=output_dir, watcher=view)
            show_plan(output, plan)
            output.result(plan.to_dict(), str(plan.run_folder))
            return
        result = searching.search(config, output_dir=output_dir, force=force, watcher=view)
    finally:
        view.close()
    show_search_result(output, result)
    output.result(result.to_dict(), str(result.ticket))


def _derived(run: str, recipe: str | None, asked: dict[str, Any]) -> SearchConfig:
    """Return the configuration of a ticket derived from a run, of which nothing may be changed."""
    free = {"sparsity", "precision", "device", "threads"}
    given = [name for name, value in asked.items() if value is not None and name not in free]
    if recipe or given:
        option = (given or ["recipe"])[0].replace("_", "-")
        raise UsageError(f"--from-scores takes all from that run; leave out --{option}")
    if asked["sparsity"] is None:
        raise UsageError("--sparsity is needed, too: that of the ticket to derive")
    where = {name: asked[name] for name in ("precision", "device", "threads")}
    return derived_config(run, asked["sparsity"], **where)


@app.command(epilog="Example: tamtctl compare --sparsity 0.5,0.7,0.9 --recipe nano")
def compare(
    tickets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TICKET]...",
            help="Tickets to set beside the dense model, random and magnitude masks: folder, "
            "packaged name or Hub id. Without any, --sparsity says what to find.",
        ),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(help="Sweep these sparsities, for example 0.5,0.7,0.9, above 0.1."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help=f"Of a sweep, in the order of the table: {', '.join(SWEEP_METHODS)}. By default "
            f"{','.join(DEFAULT_METHODS)}, "
            "of which a model without masked-LM head leaves out those that need it."
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Of the searches of a sweep, by default the recipe's, or 1; random masks take at "
            "least three."
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help=f"Of a sweep: {', '.join(RECIPES)}, or a TOML file of settings.")
    ] = "nano",
    model: Annotated[
        str | None,
        typer.Option(help="Hub id, folder, or nano; by default the recipe's, or the tickets'."),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Text as in search, whose held-out tenth is evaluated on; by default the "
            "recipe's, or each text that a ticket was trained on. May be given several times."
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text in jsonl, parquet and datasets.")
    ] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Tokens per sequence.")] = None,
    prune_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between two cuts of iterative magnitude pruning; mask training gets as "
            "many steps as that takes to the same sparsity."
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            help=f"What mask training gets of what imp takes, {' or '.join(BUDGETS)} of training."
        ),
    ] = "steps",
    at_steps: Annotated[
        str | None,
        typer.Option(help="Also evaluate mask training after just these steps: 50,100,200."),
    ] = None,
    keep_scores: Annotated[
        bool,
        typer.Option(
            "--keep-scores",
            help="Keep the scores of every mask training, and derive the other sparsities' tickets "
            "from them: what that costs against a search of their own.",
        ),
    ] = False,
    tasks: Annotated[
        str | None,
        typer.Option(help="Also fine-tune on these, for example sst2,mrpc: " + ", ".join(TASKS)),
    ] = None,
    task_seeds: Annotated[str, typer.Option(help="Of fine-tuning.")] = "1",
    data_dir: DataDirOption = None,
    limit: Annotated[int | None, typer.Option(help="Fine-tune on so many examples.")] = None,
    task_learning_rate: Annotated[
        float | None,
        typer.Option(help="Of fine-tuning; by default as in finetune."),
    ] = None,
    task_epochs: Annotated[
        int | None, typer.Option(help="Of fine-tuning; by default as in finetune.")
    ] = None,
    blocks: Annotated[
        int | None,
        typer.Option(help="Held-out sequences at most; by default the recipe's, or 512."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(PRECISIONS)}; by default the recipe's, or auto."),
    ] = None,
    device: RecipeDeviceOption = None,
    threads: ThreadsOption = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Make only a part of a sweep's runs, for example 2/8, and no report; the same "
            "command without it puts all together."
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="The report's folder; by default one under runs/.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Rebuild damaged run folders; else they are left out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be run, and how long, and stop.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare tickets, or whole sweeps, with the baselines at the same sparsity, in a report.

    A sweep finds what is missing under runs/ and repeats nothing. Mask training, iterative
    magnitude pruning, magnitude and random masks are measured on the same held-out text, with the
    pre-trained head, and with --tasks fine-tuned.
    """
    config = CompareConfig(
        tickets=tuple(tickets or ()),
        sparsities=_listed("sparsity", sparsity, float),
        methods=_listed("methods", methods, str),
        seeds=_listed("seeds", seeds, int),
        recipe=recipe,
        model=model,
        corpus=tuple(corpus or ()),
        text_column=text_column,
        sequence_length=sequence_length,
        prune_every=prune_every,
        budget=budget,
        at_steps=_listed("at-steps", at_steps, int),
        keep_scores=keep_scores,
        tasks=_listed("tasks", tasks, str),
        task_seeds=_listed("task-seeds", task_seeds, int),
        data_dir=data_dir,
        limit=limit,
        task_learning_rate=task_learning_rate,
        task_epochs=task_epochs,
        evaluation_blocks=blocks,
        precision=precision,
        device=device,
        threads=threads,
    )
    part = parse_shard(shard, config) if shard else None
    output = _output(as_json, quiet)
    _hush_hub(output)
    _hush_libraries()
    from tamtctl.cli.console import show_comparison, show_comparison_plan
    from tamtctl.cli.views.progress import CompareView
    from tamtctl.comparison import api as comparison

    view = CompareView(output)
    try:
        if dry_run:
            plan = comparison.plan_comparison(config, shard=part, watcher=view)
            show_comparison_plan(output, plan)
            todo = sum(run.state != "done" for run in plan)
            output.result({"runs": [run.to_dict() for run in plan]}, str(todo))
            return
        if part:
            runs = comparison.make_part(config, shard=part, force=force, watcher=view)
            output.line(f"searches of part {shard} that are done: {len(runs.searches)}")
            output.note("The same command without --shard puts the parts together.")
            output.result(runs.to_dict(), str(len(runs.searches)))
            return
        result = comparison.compare(config, output_dir=output_dir, force=force, watcher=view)
    finally:
        view.close()
    show_comparison(output, result)
    output.result(result.to_dict(), str(result.folder))


@app.command(
    help="Fine-tune a ticket, or the dense model, on a task, and score it.\n\nTasks: "
    + "; ".join(f"{task.name} ({task.summary})" for task in TASKS.values())
    + ".",
    epilog="Example: tamtctl finetune sst2 --ticket nano-0.7 --limit 1000 --seeds 1,2,3",
)
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
        typer.Option(help=f"{' or '.join(LABEL_KINDS)}; by default as the labels look."),
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
        seeds=_listed("seeds", seeds, int),
        checkpoint_every=checkpoint_every,
        precision=precision,
        device=device,
        threads=threads,
    )
    output = _output(as_json, quiet)
    _hush_hub(output)
    _hush_libraries()
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
    output.result(result.to_dict(), f"{result.mean:.4f}" + _selected(result.dev_selected))


@app.command(epilog="Example: tamtctl evaluate nano-0.8 --task mlm --corpus python-docs")
def evaluate(
    name: Annotated[
        str,
        typer.Argument(
            help="A ticket, a model or a fine-tuned checkpoint: folder, name or Hub id."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(OBJECTIVES)} (loss on held-out text), {STSB_ZERO_SHOT} (sentence "
            f"embeddings), or what a checkpoint was fine-tuned on: {', '.join(TASKS)}."
        ),
    ] = None,
    predict: Annotated[
        Path | None,
        typer.Option(
            help="Label this text: lines (- reads them from standard input), or a tsv, csv, jsonl "
            "or parquet file. Every line or row gets an answer, a blank one that of an empty text."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The ticket's model, if it is not where it was; for kd of an encoder that is no "
            "ticket, the dense model to compare it with."
        ),
    ] = None,
    data_dir: DataDirOption = None,
    dev: Annotated[
        str | None, typer.Option(help="Another labelled file for a task of your own.")
    ] = None,
    text_column: TextColumnsOption = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the label in --dev; by default as in fine-tuning.")
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Text for mlm and kd, named as in search: all of it is scored but what the ticket "
            "was trained on. By default the held-out tenth of python-docs."
        ),
    ] = None,
    held_out_tenth: Annotated[
        bool,
        typer.Option(
            "--held-out-tenth", help="Score only the tenth of --corpus that a search holds out."
        ),
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(
            help=f"The masked-LM head, {' or '.join(HEADS)}'s own; by default {HEADS[0]}."
        ),
    ] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Tokens per block of text.")] = None,
    blocks: Annotated[
        int | None,
        typer.Option(help="Sequences of text at most, spread over it; by default 512."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples or blocks at once.")] = 16,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a ticket or a model on held-out text, a fine-tuned checkpoint on its task."""
    config = EvaluateConfig(
        name=name,
        task=task,
        model=model,
        data_dir=data_dir,
        dev=dev,
        text_columns=tuple(text_column or ()),
        label_column=label_column,
        corpus=tuple(corpus or ()),
        held_out_tenth=held_out_tenth,
        head=head,
        sequence_length=sequence_length,
        blocks=blocks,
        batch_size=batch_size,
        precision=precision,
        device=device,
        threads=threads,
    )
    output = _output(as_json, quiet)
    _hush_hub(output)
    _hush_libraries()
    from tamtctl.cli.console import show_evaluation, show_labelled
    from tamtctl.cli.views.progress import View
    from tamtctl.tasks.evaluation import api as evaluation

    view = View(output)
    try:
        if predict is not None:
            file = Path("/dev/stdin") if str(predict) == "-" else expanded(predict)
            labelled = evaluation.label(config, file, watcher=view)
        else:
            result = evaluation.evaluate(config, watcher=view)
    finally:
        view.close()
    if predict is not None:
        show_labelled(output, labelled)
        lines = (printable.line(str(p), None) for p in labelled.predictions)
        output.result(labelled.to_dict(), "\n".join(lines))
        return
    show_evaluation(output, result)
    output.result(result.to_dict(), f"{result.score:.4f}" + _selected(result.dev_selected))


def _selected(on_dev_set: bool) -> str:
    """Label a score that is an oracle's, wherever it appears."""
    return " selected on the dev set" if on_dev_set else ""


def _listed(option: str, text: str | None, kind: Callable[[str], _Value]) -> tuple[_Value, ...]:
    """Return the values between the commas."""
    if text is None:
        return ()
    try:
        return tuple(kind(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--{option} must be numbers between commas, got {text!r}") from error


@app.command(epilog="Example: tamtctl push runs/search-nano-0.8-tamt-mlm-1a2b3c4d/ticket me/nano")
def push(
    ticket: TicketArgument,
    repo: Annotated[str, typer.Argument(help="Where to: org/name.")],
    private: Annotated[
        bool, typer.Option("--private", help="Create the repository private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch; created if it does not exist.")
    ] = None,
    commit_message: Annotated[str | None, typer.Option(help="What the commit says.")] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead.")
    ] = False,
    license_id: Annotated[
        str | None, typer.Option("--license", help="As the Hub names it: apache-2.0, mit, …")
    ] = None,
    encoding: EncodingOption = None,
    base_model: BaseModelOption = None,
    token: TokenOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent; send nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Publish a ticket on the Hugging Face Hub, with a model card."""
    output = _output(as_json, quiet)
    _hush_hub(output)
    from tamtctl.cli.console import show_push
    from tamtctl.ticket.hub import sharing as hub

    with _watched(output, f"publishing {ticket}"):
        result = hub.push(
            ticket,
            repo,
            private=private,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
            license_id=license_id,
            encoding=encoding,
            base_model=base_model,
            token=token,
            dry_run=dry_run,
        )
    show_push(output, result)
    output.result(result.to_dict(), result.url)


@app.command(epilog="Example: tamtctl pull org/name --local-dir ticket")
def pull(
    repo: Annotated[str, typer.Argument(help="Hub id: org/name.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    local_dir: Annotated[
        Path | None, typer.Option(help="Also copy the ticket to this folder.")
    ] = None,
    force_download: Annotated[
        bool, typer.Option("--force-download", help="Fetch again what the cache holds.")
    ] = False,
    token: TokenOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be fetched; fetch nothing.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Fetch a ticket from the Hugging Face Hub and verify it."""
    output = _output(as_json, quiet)
    _hush_hub(output)
    from tamtctl.cli.console import show_pull
    from tamtctl.ticket.hub import sharing as hub

    with _watched(output, f"fetching {repo}"):
        result = hub.pull(
            repo,
            revision=revision,
            local_dir=local_dir,
            force_download=force_download,
            token=token,
            dry_run=dry_run,
        )
    show_pull(output, result)
    output.result(result.to_dict(), str(result.path))


@app.command(epilog="Example: tamtctl inspect nano-0.8 me/ticket --figure overlap.svg")
def inspect(
    tickets: Annotated[
        list[str],
        typer.Argument(
            metavar="TICKET...",
            help="One or more tickets: folder, packaged name or Hub id org/name[@revision].",
        ),
    ],
    figure: Annotated[
        Path | None,
        typer.Option(
            help="Also draw sparsity, flips and overlap by layer and matrix: FILE.png or .svg."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Show every matrix and every check.")
    ] = False,
    token: TokenOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Look into tickets: where they come from, what they keep, whether they are intact, how alike.

    A flip is a position in which a mask differs from the magnitude mask that keeps as many weights.
    Similarity is that of the paper: per matrix, then averaged, with what two random masks of the
    same sparsity would have beside it.
    """
    output = _output(as_json, quiet)
    if any("/" in name and not os.path.isdir(name) for name in tickets):  # noqa: PTH112
        _hush_hub(output)
    from tamtctl.ticket import inspection as inspecting

    if figure:
        from tamtctl.ticket import heat_map

        figure = expanded(figure)
        heat_map.check_figure(figure)
    if len(tickets) > 1:
        from tamtctl.cli.views.similarity import show_comparison

        comparison = inspecting.compare_masks(tickets, token=token)
        show_comparison(output, comparison, full=full)
        result = comparison.to_dict()
        essence = "\n".join(f"{one.average.jaccard:.6f}" for one in comparison.similarities)
        drawn, similar, flips = comparison.tickets, comparison.similarities, comparison.flips
    else:
        from tamtctl.cli.views.inspection import show_inspection

        inspection = inspecting.inspect_ticket(tickets[0], token=token)
        show_inspection(output, inspection, name=tickets[0], full=full)
        result = inspection.to_dict()
        essence = "valid" if inspection.is_valid else "invalid"
        drawn, similar = [inspection.ticket] if inspection.ticket else [], []
        flips = [inspection.flips] if inspection.flips else []
    if figure and drawn:
        _hush_plotting()
        heat_map.save_heat_map(figure, tickets, drawn, similar, flips)
        output.line(f"figure  {figure}")
    output.result(result, essence)
    if not drawn:
        raise TamtctlError(f"ticket {str(inspection.path)!r}: {inspection.problem}")


@app.command(epilog="Example: tamtctl export nano-0.8 --output-dir sparse-nano")
def export(
    ticket: TicketArgument,
    output_dir: Annotated[Path, typer.Option(help="The checkpoint's folder; new or empty.")],
    head: Annotated[
        str | None,
        typer.Option(
            help="masked-lm, none, sequence-classification, token-classification, "
            "question-answering or multiple-choice; by default what the base model has."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the ticket's base model is, if elsewhere.")
    ] = None,
    trained_head: Annotated[
        bool, typer.Option("--trained-head", help="Use the head that was trained with the mask.")
    ] = False,
    token: TokenOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the base model with zeros where the ticket prunes, as other tools load it."""
    output = _output(as_json, quiet)
    _hush_hub(output)
    _hush_libraries()
    from tamtctl.cli.console import show_export
    from tamtctl.ticket import exporting

    with _watched(output, f"exporting {ticket}"):
        result = exporting.export(
            ticket, output_dir, head=head, model=model, trained_head=trained_head, token=token
        )
    show_export(output, result)
    output.result(result.to_dict(), str(result.path))


@app.command(
    "import",
    epilog="Example: tamtctl import mask.pt --model bert-base-uncased "
    "--output-dir ticket --encoding delta",
)
def import_masks(
    source: Annotated[
        Path,
        typer.Argument(
            help="mask.pt, a pruned checkpoint (.bin, .pt, .safetensors or folder), or a ticket."
        ),
    ],
    output_dir: Annotated[Path, typer.Option(help="The ticket's folder.")],
    model: Annotated[
        str | None, typer.Option(help="Pre-trained model of the masks: Hub id, folder, or nano.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of the model on the Hub.")] = None,
    method: Annotated[str, typer.Option(help="How the masks were found.")] = "imported",
    prefix: Annotated[
        str | None,
        typer.Option(help="Of several encoders in one file, what the names of one begin with."),
    ] = None,
    base_model: BaseModelOption = None,
    encoding: EncodingOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a ticket of masks from elsewhere, or of a ticket in another encoding."""
    output = _output(as_json, quiet)
    _hush_hub(output)
    _hush_libraries()
    from tamtctl.cli.console import show_import
    from tamtctl.ticket.importing import import_ticket

    with _watched(output, f"importing {source}"):
        result = import_ticket(
            source,
            output_dir,
            model=model,
            revision=revision,
            method=method,
            prefix=prefix,
            base_model=base_model,
            encoding=encoding or "bits",
        )
    show_import(output, result)
    output.result(result.to_dict(), str(result.ticket))


@app.command("list", epilog="Example: tamtctl list --sort loss")
def list_tickets(
    sort: Annotated[
        str,
        typer.Option(
            help="date (the newest first), name, loss (the lowest first, within each model and "
            "unit), sparsity (the lowest first) or size (the largest first)."
        ),
    ] = "date",
    on_hub: Annotated[
        bool, typer.Option("--hub", help="List the tickets published on the Hub instead.")
    ] = False,
    token: TokenOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """List the tickets at hand: packaged ones, those under runs/ and those pulled.

    The loss is each ticket's own, on the text and in the unit of its search.
    """
    output = _output(as_json, quiet)
    if on_hub:
        _hush_hub(output)
        from tamtctl.cli.console import show_published
        from tamtctl.ticket.hub.sharing import published_tickets

        published = published_tickets(token=token)
        show_published(output, published)
        values = {"tickets": [one.to_dict() for one in published]}
        names = [one.repo for one in published]
    else:
        from tamtctl.cli.views.listing import show_listing
        from tamtctl.ticket import listing

        found = listing.list_tickets(sort)
        show_listing(output, found)
        values, names = found.to_dict(), [one.name for one in found.tickets]
    output.result(values, "\n".join(names))


@app.command(epilog="Example: tamtctl env > report.txt")
def env(
    as_json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """Print what a bug report needs: versions, device, threads, caches."""
    output = _output(as_json, quiet)
    from tamtctl.foundations.environment import environment

    facts = environment()
    output.facts({name: str(value) for name, value in facts.items()})
    output.result(facts, facts["tamtctl"])


def _output(as_json: bool, quiet: bool) -> Output:
    from tamtctl.cli.console import Output

    return Output(as_json=as_json, quiet=quiet)


@contextmanager
def _watched(output: Output, what: str) -> Iterator[None]:
    """Say what takes long in this context, if it does."""
    from tamtctl.cli.views.progress import View
    from tamtctl.foundations.working import heard_by

    view = View(output)
    view.status(what)
    try:
        with heard_by(view):
            yield
    finally:
        view.close()


def _hush_hub(output: Output) -> None:
    """Let the Hub's client show its bars to people only, and its notes to nobody.

    It notes its retries and, where they fail, raises; then one line says what happened.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    is_watched = sys.stderr.isatty() and not (output.as_json or output.quiet)
    if not is_watched and not are_progress_bars_disabled():
        disable_progress_bars()


def _hush_libraries() -> None:
    """Keep the libraries' own bars and notes off the screen; what matters, we say ourselves."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    _hush_plotting()
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()


def _hush_plotting() -> None:
    """Keep what matplotlib notes of its fonts and folders off the screen: it draws all the same."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


_INTERRUPTED, _TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind the stack like Ctrl-C, so that nothing is left half-written."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(_TERMINATED)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _all_processes() -> Iterator[None]:
    """Join the other processes if ``torchrun`` started several; only the first one is heard."""
    if world_size() == 1 or _command() not in PARALLEL_COMMANDS:
        yield
        return
    check_launch()
    from tamtctl.foundations import distributed

    with distributed.joined() as world:
        if not world.is_first:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115, until it ends
        yield


def _command() -> str | None:
    """Return the command that is asked for, before the arguments are parsed."""
    return next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)


def main() -> None:
    """Run the command line; every error ends here as one line and an exit code."""
    is_one_of_many = "RANK" in os.environ
    if is_one_of_many and os.environ["RANK"] != "0":
        answer_by(lambda line: None)  # the first one speaks
    with _sigterm_raises(), Answering(are_repeated=is_one_of_many):
        sys.exit(_run())


def _run() -> int:
    try:
        with _all_processes():
            code: int = app(standalone_mode=False) or 0
            if code == _INTERRUPTED:  # what the parser turns Ctrl-C into
                raise KeyboardInterrupt
        return code
    except TamtctlError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:  # a usage error of the parser
        return _fail(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)
    except SystemExit as ending:
        if ending.code == _TERMINATED:  # raised by our handler
            return _fail("terminated", _TERMINATED)
        raise  # by the parser: who read the output has gone
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115, its reader has gone
        return 1
    except BaseException as error:  # what is none of ours to end: Rust's panics are caught, too
        if line := explain(error):
            return _fail(line, 1)
        if not isinstance(error, Exception):
            raise
        kind = type(error).__name__
        return _fail(
            f"internal error ({kind}: {error}); please report it with --debug and tamtctl env", 1
        )


def _fail(message: str, code: int) -> int:
    if world_size() > 1 and not _speaks_for_all():
        return code
    if "--debug" in sys.argv:
        trace = map(printable.line, traceback.format_exc().splitlines())
        sys.stderr.write("\n".join(trace) + "\n")
    sys.stderr.write(f"error: {printable.line(' '.join(message.split()))}\n")
    return code


def _speaks_for_all() -> bool:
    """Tell whether this process is the one that says what went wrong, and let it be heard."""
    distributed = sys.modules.get("tamtctl.foundations.distributed")
    if distributed is None or not distributed.is_joined():
        return os.environ.get("RANK") not in set(map(str, range(1, world_size())))
    speaks: bool = distributed.may_report()
    if speaks and sys.__stderr__:
        sys.stderr = sys.__stderr__
    return speaks


if __name__ == "__main__":
    main()
