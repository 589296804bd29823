"""``tamtctl recover``: train what a ticket keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from tamtctl.cli.options import (
    DebugOption,
    Given,
    JsonOption,
    OutputDirOption,
    QuietOption,
    asks_for,
)
from tamtctl.cli.screen import hush_hub, hush_libraries, output_of
from tamtctl.foundations.config import OUTPUT, RUN
from tamtctl.pruning.recovery.config import RecoverConfig


@asks_for(RecoverConfig)
def recover(
    given: Given,
    output_dir: OutputDirOption = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Redo a finished run.", rich_help_panel=OUTPUT),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be done, and stop.", rich_help_panel=RUN),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train the weights that a ticket keeps against the dense model, and write a checkpoint."""
    config = RecoverConfig(**given)
    output = output_of(as_json, quiet)
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.progress import RecoverView
    from tamtctl.cli.views.recovery import show_recover_plan, show_recovery
    from tamtctl.pruning.recovery import api as recovering

    view = RecoverView(output)
    try:
        if dry_run:
            plan = recovering.plan_recovery(config, output_dir=output_dir, watcher=view)
            show_recover_plan(output, plan)
            output.result(plan.to_dict(), str(plan.run_folder))
            return
        result = recovering.recover(config, output_dir=output_dir, force=force, watcher=view)
    finally:
        view.close()
    show_recovery(output, result)
    output.result(result.to_dict(), str(result.model))
