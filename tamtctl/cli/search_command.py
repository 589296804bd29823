"""``tamtctl search``: find a ticket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tamtctl.cli.options import (
    BaseModelOption,
    CheckpointOption,
    DebugOption,
    JsonOption,
    QuietOption,
    RecipeDeviceOption,
    SeedOption,
    ThreadsOption,
)
from tamtctl.cli.screen import hush_hub, hush_libraries, output_of
from tamtctl.foundations.config import PRECISIONS
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.config import LOGS, SearchConfig, derived_config
from tamtctl.pruning.methods import METHODS
from tamtctl.pruning.objectives import objectives
from tamtctl.pruning.recipes import RECIPES


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
    objective: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(objectives())}.")
    ] = None,
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
    output = output_of(as_json, quiet)
    hush_hub(output)
    hush_libraries()
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
