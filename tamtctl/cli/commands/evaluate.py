"""``tamtctl evaluate``: measure a ticket, a model or a checkpoint."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import Given, command
from tamtctl.cli.screen import hush_hub, hush_libraries, selected
from tamtctl.foundations import printable
from tamtctl.foundations.config import DATA, OUTPUT
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.tasks.evaluation.config import EvaluateConfig

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command(EvaluateConfig)
def evaluate(
    given: Given,
    output: Output,
    predict: Annotated[
        Path | None,
        typer.Option(
            help="Label this text: lines (- reads them from standard input), or a tsv, csv, jsonl "
            "or parquet file. JSON lines come out as JSON lines, with a confidence for each "
            "label.\n\n"
            "Every line or row gets an answer; a blank one counts as an empty text.",
            rich_help_panel=DATA,
        ),
    ] = None,
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence",
            help="With --predict, print the probability of each label, too; JSON lines always "
            "have it.",
            rich_help_panel=OUTPUT,
            hidden=True,
        ),
    ] = False,
) -> None:
    """Measure a ticket or a model on held-out text, or a fine-tuned checkpoint on its task."""
    config = EvaluateConfig(**given)
    if confidence and predict is None:
        raise UsageError("--confidence is for --predict")
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.progress import View
    from tamtctl.cli.views.tasks import show_evaluation, show_labelled, show_notes
    from tamtctl.tasks.evaluation import api as evaluation

    view: View[object]
    with closing(View(output)) as view:
        if predict is not None:
            file = Path("/dev/stdin") if str(predict) == "-" else expanded(predict)
            labelled = evaluation.label(config, file, watcher=view)
        else:
            result = evaluation.evaluate(config, watcher=view)
    if predict is not None:
        if labelled.records is None or output.as_json or output.quiet:
            show_labelled(output, labelled, with_confidence=confidence)
        else:
            show_notes(output, labelled)
            output.json_lines(labelled.to_records())
        said = (" ".join(p) if isinstance(p, list) else str(p) for p in labelled.predictions)
        lines = (printable.line(one, None) for one in said)
        output.result(labelled.to_dict(), "\n".join(lines))
        return
    show_evaluation(output, result)
    output.result(result.to_dict(), f"{result.score:.4f}" + selected(result.dev_selected))
