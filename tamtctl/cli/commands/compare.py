"""``tamtctl compare``: compare tickets, or the masks of a sweep, with the baselines."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import Given, command
from tamtctl.cli.options import OutputDirOption
from tamtctl.cli.screen import hush_hub, hush_libraries
from tamtctl.cli.slurm import slurm_array
from tamtctl.comparison.config import CompareConfig
from tamtctl.foundations.config import OUTPUT, RUN
from tamtctl.foundations.errors import UsageError

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command(CompareConfig)
def compare(
    given: Given,
    output: Output,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Make only a part of a sweep's runs, for example 2/8, and no report; the same "
            "command without it puts all together.",
            rich_help_panel=RUN,
            hidden=True,
        ),
    ] = None,
    output_dir: OutputDirOption = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Redo runs that are damaged or whose inputs have changed.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would be run, and how long, and stop.", rich_help_panel=RUN
        ),
    ] = False,
) -> None:
    """Compare tickets, or whole sweeps, with the baselines at the same sparsity, in a report.

    A sweep finds what is missing under runs/ and repeats nothing. Mask training, iterative
    magnitude pruning, magnitude and random masks are measured on the same held-out text, with the
    pre-trained head, and with --tasks scored on tasks.
    """
    hush_hub(output)
    config = CompareConfig(**given)
    part = parse_shard(shard, config) if shard else None
    hush_libraries()
    from tamtctl.cli.views.comparison import show_comparison, show_comparison_plan, show_left_out
    from tamtctl.cli.views.progress import CompareView
    from tamtctl.comparison import api as comparison

    with closing(CompareView(output)) as view:
        if dry_run:
            plan = comparison.plan_comparison(config, shard=part, force=force, watcher=view)
            script = None if part or config.tickets else slurm_array(config, plan, sys.argv)
            show_comparison_plan(output, plan, script)
            todo = sum(run.state != "done" for run in plan)
            told = {"runs": [run.to_dict() for run in plan], "slurm": script}
            output.result(told, str(todo))
            return
        if part:
            runs = comparison.make_part(config, shard=part, force=force, watcher=view)
            output.line(f"searches of part {shard} that are done: {len(runs.searches)}")
            show_left_out(output, {str(cell): why for cell, why in runs.left_out.items()})
            output.note("The same command without --shard puts the parts together.")
            output.result(runs.to_dict(), str(len(runs.searches)))
            return
        result = comparison.compare(config, output_dir=output_dir, force=force, watcher=view)
    show_comparison(output, result)
    output.result(result.to_dict(), str(result.folder))


def parse_shard(text: str, config: CompareConfig) -> tuple[int, int]:
    """Return (2, 8) for ``2/8``.

    Raises:
        UsageError: It is not of that form, or not for a sweep.
    """
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard must be like 2/8, from 1/8 to 8/8, got {text!r}")
    if config.tickets:
        raise UsageError("--shard is for a sweep, with --sparsity")
    if config.budget == "seconds":
        raise UsageError("--shard cannot know the --budget seconds that imp takes in another part")
    return part, parts
