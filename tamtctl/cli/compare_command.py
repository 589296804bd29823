"""``tamtctl compare``: set tickets and sweeps beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tamtctl.cli.options import (
    DataDirOption,
    DebugOption,
    JsonOption,
    QuietOption,
    RecipeDeviceOption,
    ThreadsOption,
    listed,
)
from tamtctl.cli.screen import hush_hub, hush_libraries, output_of
from tamtctl.comparison.config import (
    BUDGETS,
    CompareConfig,
    parse_shard,
)
from tamtctl.foundations.config import PRECISIONS
from tamtctl.pruning.methods import DEFAULT_METHODS, sweep_methods
from tamtctl.pruning.recipes import RECIPES
from tamtctl.tasks.registry import TASKS


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
            help=f"Of a sweep, in the order of the table: {', '.join(sweep_methods())}. By default "
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
        sparsities=listed("sparsity", sparsity, float),
        methods=listed("methods", methods, str),
        seeds=listed("seeds", seeds, int),
        recipe=recipe,
        model=model,
        corpus=tuple(corpus or ()),
        text_column=text_column,
        sequence_length=sequence_length,
        prune_every=prune_every,
        budget=budget,
        at_steps=listed("at-steps", at_steps, int),
        keep_scores=keep_scores,
        tasks=listed("tasks", tasks, str),
        task_seeds=listed("task-seeds", task_seeds, int),
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
    output = output_of(as_json, quiet)
    hush_hub(output)
    hush_libraries()
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
