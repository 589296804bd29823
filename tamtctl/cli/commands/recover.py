"""``tamtctl recover``: train what a ticket keeps."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from tamtctl.cli.command import Given, command
from tamtctl.cli.options import DryRunOption, ForceOption, OutputDirOption
from tamtctl.cli.screen import hush_hub, hush_libraries
from tamtctl.pruning.recovery.config import RecoverConfig

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command(RecoverConfig)
def recover(
    given: Given,
    output: Output,
    output_dir: OutputDirOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train the weights that a ticket keeps against the dense model's outputs, as a checkpoint."""
    config = RecoverConfig(**given)
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.progress import RecoverView
    from tamtctl.cli.views.recovery import show_recover_plan, show_recovery
    from tamtctl.pruning.recovery import api as recovering

    with closing(RecoverView(output)) as view:
        if dry_run:
            plan = recovering.plan_recovery(config, output_dir=output_dir, watcher=view)
            show_recover_plan(output, plan)
            output.result(plan.to_dict(), str(plan.run_folder))
            return
        result = recovering.recover(config, output_dir=output_dir, force=force, watcher=view)
    show_recovery(output, result)
    output.result(result.to_dict(), str(result.model))
