"""``tamtctl evaluate``: measure a ticket, a model or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tamtctl.cli.options import (
    DataDirOption,
    DebugOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    TextColumnsOption,
    ThreadsOption,
)
from tamtctl.cli.screen import hush_hub, hush_libraries, output_of, selected
from tamtctl.foundations import printable
from tamtctl.foundations.paths import expanded
from tamtctl.pruning.objectives import objectives
from tamtctl.tasks.benchmarks.table import zero_shot_tasks
from tamtctl.tasks.evaluation.config import HEADS, EvaluateConfig
from tamtctl.tasks.registry import TASKS


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
            help=f"{', '.join(objectives())} (loss on held-out text), "
            f"{', '.join(zero_shot_tasks())} (sentence embeddings), or what a checkpoint was "
            f"fine-tuned on: {', '.join(TASKS)}."
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
    output = output_of(as_json, quiet)
    hush_hub(output)
    hush_libraries()
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
    output.result(result.to_dict(), f"{result.score:.4f}" + selected(result.dev_selected))
