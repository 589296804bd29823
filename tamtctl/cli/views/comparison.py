"""How a comparison looks on a screen: its plan, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from tamtctl.cli.console import Page, PlainTable
from tamtctl.cli.pace import duration
from tamtctl.foundations import printable
from tamtctl.foundations.counts import count

if TYPE_CHECKING:
    from tamtctl.comparison.result import Comparison
    from tamtctl.comparison.sweep_plan import PlannedRun


def show_comparison_plan(
    output: Page, plan: Sequence[PlannedRun], script: str | None = None
) -> None:
    """Print the runs of a sweep, what is left to do, and a script that does it in parts."""
    if not plan:
        output.line("nothing to search or fine-tune: it only measures losses, without --dry-run")
        return
    table = PlainTable("run", "state")
    table.add_column("steps", justify="right")
    table.add_column("training", justify="right")
    on_tasks = sum(run.task_seconds for run in plan)
    if on_tasks:
        table.add_column("fine-tuning", justify="right")
    for run in plan:
        left = [f"{run.steps:,}", duration(run.estimated_seconds)] if run.steps else ["–", "–"]
        if on_tasks:
            left.append(duration(run.task_seconds) if run.task_seconds else "–")
        table.add_row(run.cell, run.state, *left)
    output.table(table)
    todo = sum(run.state != "done" for run in plan)
    seconds = sum(run.estimated_seconds for run in plan)
    more = f", fine-tuning about {duration(on_tasks)} without scoring" if on_tasks else ""
    line = f"{todo} of {count(len(plan), 'run')} to do, training about {duration(seconds)}{more}"
    output.line(line)
    if script:
        output.line()
        output.line("The same as a Slurm array, to be sent from this folder with sbatch:")
        output.line()
        for line in script.splitlines():
            output.line(line)


def show_left_out(output: Page, left_out: Mapping[str, str]) -> None:
    """Print which cells of a sweep are missing and why, which --quiet must not hide."""
    for cell, why in left_out.items():
        line = f"left out: {cell}: {why}"
        if output.quiet:
            typer.echo(printable.line(line), err=True)
        else:
            output.line(line)


def show_comparison(output: Page, comparison: Comparison) -> None:
    """Print the table of results, what it says, and where the report is."""
    from tamtctl.comparison.report import REPORT, first_tables

    output.notes.line()
    for text in comparison.texts:
        output.line(f"Held-out text: {text}")
    for table in first_tables(comparison):
        shown = PlainTable(*table.heading[: table.words])
        for column in table.heading[table.words :]:
            shown.add_column(column, justify="right")
        for row in table.rows:
            shown.add_row(*row)
        output.table(shown)
    for sentence in comparison.sentences:
        output.line(sentence)
    show_left_out(output, comparison.left_out)
    output.line(f"report  {comparison.folder / REPORT}")
