"""``tamtctl finetune``: train a ticket on a task."""

from __future__ import annotations

import typer

from tamtctl.cli.options import (
    DebugOption,
    ForceOption,
    Given,
    JsonOption,
    OutputDirOption,
    QuietOption,
    asks_for,
)
from tamtctl.cli.screen import hush_hub, hush_libraries, output_of, selected
from tamtctl.foundations import printable
from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.registry import TASKS


@asks_for(FinetuneConfig)
def finetune(
    given: Given,
    output_dir: OutputDirOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Fine-tune a ticket, or the dense model, on a task, and measure it."""
    if "task" not in given and not (given.get("train") or given.get("dev")):
        raise UsageError(f"which task? one of {', '.join(TASKS)}, or --train of your own")
    given.setdefault("task", "own")
    config = FinetuneConfig(**given)
    output = output_of(as_json, quiet)
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.progress import FinetuneView
    from tamtctl.cli.views.tasks import show_finetune_result
    from tamtctl.tasks.finetuning import api
    from tamtctl.tasks.finetuning.starting_point import with_default_ticket

    config, chosen = with_default_ticket(config)
    output.note(chosen)
    view = FinetuneView(output)
    try:
        result = api.finetune(config, output_dir=output_dir, force=force, watcher=view)
    finally:
        view.close()
    show_finetune_result(output, result)
    if quiet and result.untrained_line:  # --quiet must not hide that the score means nothing
        typer.echo(printable.line(result.untrained_line), err=True)
    output.result(result.to_dict(), f"{result.mean:.4f}" + selected(result.dev_selected))
