"""Watchers of calls of the library, and the reports that they get.

A call without a watcher shows progress bars in a notebook, and nothing elsewhere.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tamtctl.foundations import printable

if TYPE_CHECKING:
    from tamtctl.foundations.working import Work

Plan = TypeVar("Plan", contravariant=True)


@dataclass(frozen=True)
class StepReport:
    """The state of a run after a step.

    Attributes:
        step: Optimiser steps done, from 1.
        steps: Steps of the whole run.
        terms: Term → mean loss since the last report.
        learning_rate: Learning rate of this step.
        flips: Share of mask bits that differ from the initial mask.
        tokens_per_second: Tokens per second since the start, without padding and, once there are
            more, the first five steps; this process's number times the number of processes.
        seconds: Seconds of training since the start, without reports, evaluations, checkpoints, and
            the time between an interruption and going on.
        is_last: Whether no step follows.
        eval_losses: Term → loss on held-out text; empty if there was no evaluation after this step.
    """

    step: int
    steps: int
    terms: dict[str, float]
    learning_rate: float
    flips: float
    tokens_per_second: float
    seconds: float
    is_last: bool
    eval_losses: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The objective: the sum of its terms."""
        return sum(self.terms.values())


class Watcher(Protocol[Plan]):
    """Is told about the progress of a call that may take long.

    ``Watcher[SearchPlan]`` is for a search; a watcher that takes any plan is for every call.
    """

    def status(self, message: str) -> None:
        """Get a line about what is being done now."""

    def note(self, message: str) -> None:
        """Get a line that a person should read."""

    def plan(self, plan: Plan) -> None:
        """Get the plan, before the work begins."""

    def progress(self, report: StepReport) -> None:
        """Get a report."""


class Silent:
    """A watcher that shows nothing: ``search(config, watcher=Silent())`` in a notebook.

    Example:
        >>> result = tamtctl.search(config, watcher=tamtctl.Silent())
    """

    def status(self, message: str) -> None:
        """Ignore the line."""

    def note(self, message: str) -> None:
        """Ignore the line."""

    def plan(self, plan: object) -> None:
        """Ignore the plan."""

    def progress(self, report: StepReport) -> None:
        """Ignore the report."""


class ProgressBars(Silent):
    """A watcher that shows bars of ``tqdm.auto``, in a notebook or a terminal.

    In a notebook it is the default watcher; in a script, give ``watcher=ProgressBars()``.

    Example:
        >>> result = tamtctl.search(config, watcher=tamtctl.ProgressBars())
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
        """Show the loss behind the outermost bar."""
        text = f"loss {report.loss:.3f}"
        if report.eval_losses:
            text += f", held-out loss {sum(report.eval_losses.values()):.3f}"
        if self._bars:
            self._bars[0].bar.set_postfix_str(text, refresh=False)

    def begin(self, what: str, total: int | None, done: int, unit: str) -> Work:
        """Show a bar for new work; at the end it vanishes, unless it counts training steps."""
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
        """Close all bars, also after an error."""
        for bar in reversed([*self._bars]):
            bar.end()


class _Bar:
    """Work that is shown by a bar."""

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
    """Return progress bars in a notebook, where no terminal is seen, else a silent watcher."""
    return ProgressBars() if is_notebook() else Silent()


def is_notebook() -> bool:
    """Return whether the code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
