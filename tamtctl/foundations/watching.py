"""Who watches a call of the library that names nobody: a notebook's reader, elsewhere no one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tamtctl.foundations import printable

if TYPE_CHECKING:
    from tamtctl.foundations.working import Work
    from tamtctl.pruning.searching.run import SearchPlan
    from tamtctl.tasks.finetuning.result import FinetunePlan
    from tamtctl.training.loop import StepReport


class Silent:
    """A watcher who says nothing: ``search(config, watcher=Silent())`` in a notebook."""

    def status(self, message: str) -> None:
        """Be told what is being done now, where it may take long."""

    def note(self, message: str) -> None:
        """Be told a line that a person should know."""

    def plan(self, plan: SearchPlan) -> None:
        """Be told what a search will do."""

    def finetune_plan(self, plan: FinetunePlan) -> None:
        """Be told what fine-tuning will do."""

    def progress(self, report: StepReport) -> None:
        """Be told of a step."""


class ProgressBars(Silent):
    """A watcher with the bars of ``tqdm.auto``: those of a notebook, or of a terminal.

    In a notebook a call without a watcher has these; in a script, give ``watcher=ProgressBars()``.
    """

    def __init__(self) -> None:
        """Show nothing yet."""
        from tqdm.auto import tqdm

        self._tqdm: Any = tqdm
        self._bars: list[_Bar] = []

    def note(self, message: str) -> None:
        """Print the line above the bars."""
        self._tqdm.write(printable.line(message), file=sys.stderr)

    def progress(self, report: StepReport) -> None:
        """Say the loss behind the outermost bar."""
        text = f"loss {report.loss:.3f}"
        if report.eval_losses:
            text += f", held-out loss {sum(report.eval_losses.values()):.3f}"
        if self._bars:
            self._bars[0].bar.set_postfix_str(text, refresh=False)

    def begin(self, what: str, total: int | None, done: int, unit: str) -> Work:
        """Show work that begins; its bar vanishes at its end, unless a loss stands behind it."""
        bar = self._tqdm(
            desc=printable.line(what),
            total=total,
            initial=done,
            unit=f" {unit}" if unit and unit != "B" else unit or "it",
            unit_scale=unit == "B",
            leave=what == "step",
            delay=0 if what == "step" else 0.3,
            dynamic_ncols=True,
        )
        self._bars.append(_Bar(bar, self._bars))
        return self._bars[-1]

    def close(self) -> None:
        """End what is shown; also after an error."""
        for bar in reversed([*self._bars]):
            bar.end()


class _Bar:
    """Work that has a bar."""

    def __init__(self, bar: Any, bars: list[_Bar]) -> None:
        self.bar, self._bars = bar, bars

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        self.bar.update(count)

    def end(self) -> None:
        """Stop the bar."""
        if self in self._bars:
            self._bars.remove(self)
            self.bar.close()


def default_watcher() -> Silent:
    """Return bars if this is a notebook, whose reader sees no terminal, else nobody."""
    return ProgressBars() if is_notebook() else Silent()


def is_notebook() -> bool:
    """Tell whether the code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
