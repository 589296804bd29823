"""``tamtctl finetune``: train a ticket on a task."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import typer

from tamtctl.cli.command import Given, command
from tamtctl.cli.options import ForceOption, OutputDirOption
from tamtctl.cli.screen import hush_hub, hush_libraries, selected
from tamtctl.foundations import printable
from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.registry import TASKS

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command(FinetuneConfig)
def finetune(
    given: Given,
    output: Output,
    output_dir: OutputDirOption = None,
    force: ForceOption = False,
) -> None:
    """Fine-tune a ticket, or the dense model, on a task, and measure it."""
    if "task" not in given and not (given.get("train") or given.get("dev")):
        raise UsageError(f"which task? one of {', '.join(TASKS)}, or --train of your own")
    given.setdefault("task", "own")
    config = FinetuneConfig(**given)
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.progress import FinetuneView
    from tamtctl.cli.views.tasks import show_finetune_result
    from tamtctl.tasks.finetuning import api
    from tamtctl.tasks.finetuning.starting_point import with_default_ticket

    config, chosen = with_default_ticket(config)
    output.note(chosen)
    with closing(FinetuneView(output)) as view:
        result = api.finetune(config, output_dir=output_dir, force=force, watcher=view)
    show_finetune_result(output, result)
    if output.quiet and result.untrained_line:  # --quiet must not hide that the score means nothing
        typer.echo(printable.line(result.untrained_line), err=True)
    output.result(result.to_dict(), f"{result.mean:.4f}" + selected(result.dev_selected))
