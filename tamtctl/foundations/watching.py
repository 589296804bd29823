"""Who watches a call of the library, and what a watcher is told.

A call that names nobody is watched by the reader of a notebook, elsewhere by no one.
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
    """What is known of a run after a step.

    Attributes:
        step: Optimiser steps done, from 1.
        steps: Steps of the whole run.
        terms: Mean loss of each term since the last report.
        learning_rate: The rate of this step.
        flips: Share of the mask that differs from the initial one.
        tokens_per_second: Tokens per second, without padding, since the start but the first steps;
            of all processes, their slices taken to be as large as this one's.
        seconds: Since the start, without what lay between an interruption and going on.
        is_last: No step follows.
        eval_losses: Term → its loss on held-out text, if it was evaluated after this step.
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
    """Who wants to know how a call is going that may take long.

    ``Watcher[SearchPlan]`` is for a search; whoever can be told of any plan is for every call.
    """

    def status(self, message: str) -> None:
        """Be told what is being done now, where it may take long."""

    def note(self, message: str) -> None:
        """Be told a line that a person should know."""

    def plan(self, plan: Plan) -> None:
        """Be told what will be done, before it is."""

    def progress(self, report: StepReport) -> None:
        """Be told of a step."""


class Silent:
    """A watcher who says nothing: ``search(config, watcher=Silent())`` in a notebook.

    Example:
        >>> result = tamtctl.search(config, watcher=tamtctl.Silent())
    """

    def status(self, message: str) -> None:
        """Be told what is being done now, where it may take long."""

    def note(self, message: str) -> None:
        """Be told a line that a person should know."""

    def plan(self, plan: object) -> None:
        """Be told what a search or a fine-tuning will do, before it is done."""

    def progress(self, report: StepReport) -> None:
        """Be told of a step."""


class ProgressBars(Silent):
    """A watcher with the bars of ``tqdm.auto``: those of a notebook, or of a terminal.

    In a notebook a call without a watcher has these; in a script, give ``watcher=ProgressBars()``.

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
