"""What a person or a program sees: a terminal's colours and bars, plain lines, JSON, or little."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from tamtctl.searching import SearchPlan, SearchResult
    from tamtctl.training import StepReport

_PLAIN_WIDTH = 100
_PLAIN_SECONDS = 10.0  # between two lines of progress where there is no terminal


class Output:
    """The one sink of a command: results on stdout, everything else too unless that is JSON.

    Args:
        as_json: Print one JSON object on stdout; all else goes to stderr.
        quiet: Print nothing but the result's essence.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        stream = sys.stderr if as_json else sys.stdout
        width = None if stream.isatty() else _PLAIN_WIDTH
        self.console = Console(file=stream, width=width, quiet=quiet, highlight=False)

    def line(self, text: str = "") -> None:
        """Print a line of plain text, never wrapped, so that paths can be copied."""
        self.console.print(escape(text), soft_wrap=True)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Print names and values in two columns."""
        width = max(map(len, facts)) + 2
        for name, value in facts.items():
            label = f"[bold]{escape(name.ljust(width))}[/bold]"
            self.console.print(label + escape(value), soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table."""
        self.console.print(table)

    def result(self, value: Mapping[str, Any], essence: str) -> None:
        """Print the JSON object, or in quiet mode the one line that a script wants."""
        if self.as_json:
            print(json.dumps(value, indent=2))  # noqa: T201, stdout is the interface here
        elif self.quiet:
            print(essence)  # noqa: T201


class SearchView:
    """Shows a search as it goes: the plan, a progress bar or plain lines, the table of losses."""

    def __init__(self, output: Output) -> None:
        self._out = output
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._last_line = 0.0

    def status(self, message: str) -> None:
        """Say what is being done now."""
        self._close_bar()
        self._out.console.print(f"[dim]{escape(message)} …[/dim]", soft_wrap=True)

    def plan(self, plan: SearchPlan) -> None:
        """Say what will be done."""
        show_plan(self._out, plan)
        if self._out.console.is_terminal and plan.steps and not self._out.quiet:
            self._bar = Progress(
                TextColumn("{task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=self._out.console,
            )
            self._task = self._bar.add_task("training the mask", total=plan.steps)
            self._bar.start()

    def progress(self, report: StepReport) -> None:
        """Show loss, flips and speed."""
        text = (
            f"loss {report.loss:.3f}  flips {report.flips:.1%}  "
            f"{report.tokens_per_second:,.0f} tokens/s"
        )
        if self._bar:
            self._bar.update(self._task, completed=report.step, description=text)
            return
        now = time.monotonic()
        if now - self._last_line >= _PLAIN_SECONDS or report.step == report.steps:
            self._last_line = now
            self._out.line(f"step {report.step}/{report.steps}  {text}")

    def close(self) -> None:
        """Leave the terminal as it was; also after an error."""
        self._close_bar()

    def _close_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def show_plan(output: Output, plan: SearchPlan) -> None:
    """Print what a search will do."""
    config = plan.config
    training = (
        f"{plan.steps:,} steps of {config.batch_size} × {config.sequence_length} tokens, "
        f"about {_duration(plan.estimated_seconds)}"
        if plan.steps
        else "none, a one-shot mask"
    )
    output.facts(
        {
            "model": f"{config.model} ({plan.model_type})",
            "corpus": f"{' '.join(config.corpus)} ({_tokens(plan.train_tokens)} tokens, "
            f"{_tokens(plan.held_out_tokens)} held out)",
            "method": f"{config.method}, objective {config.objective}, seed {config.seed}",
            "mask": f"{plan.weights:,} weights in {plan.matrices} matrices, "
            f"sparsity {config.sparsity:g} in each",
            "training": training,
            "device": f"{plan.device}, {plan.precision}, {plan.threads} threads",
            "run folder": str(plan.run_folder),
        }
    )


def show_search_result(output: Output, result: SearchResult) -> None:
    """Print the table of losses, the ticket, and what to type next."""
    if result.already_done:
        output.line("This search was done before; --force does it again.")
    unit = "nats per masked token" if "mlm" in result.objective else "1 - cosine"
    title = f"Held-out {result.objective} loss at sparsity {result.sparsity:.4g} ({unit})"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("mask")
    table.add_column("loss", justify="right")
    table.add_column("± s.e.", justify="right")
    if result.check_losses:
        table.add_column("check corpus", justify="right")
    for name, loss in result.losses.items():
        row = [name, f"{loss:.3f}", f"{result.standard_errors[name]:.3f}"]
        if result.check_losses:
            row.append(f"{result.check_losses[name]:.3f}")
        style = "bold" if name == "ticket" else None
        table.add_row(*row, style=style)
    output.table(table)
    if result.steps:
        output.line(
            f"{result.steps} steps in {_duration(result.seconds)} "
            f"({result.tokens_per_second:,.0f} tokens/s), {result.flips:.1%} of the mask flipped"
        )
    output.line(f"ticket  {result.ticket} ({size(result.bytes)})")
    output.line(f"next    tamtctl inspect {result.ticket}")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _tokens(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000 as the Hub shows it."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
