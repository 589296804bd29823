"""What a command shows while it works: its plan, what it does, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from tamtctl.cli.console import Output
from tamtctl.cli.display import Display
from tamtctl.cli.pace import duration
from tamtctl.cli.views.recovery import show_recover_plan
from tamtctl.cli.views.search import show_plan
from tamtctl.cli.views.tasks import show_finetune_plan
from tamtctl.foundations.signals import answer_by
from tamtctl.pruning.objectives import terms_of

if TYPE_CHECKING:
    from tamtctl.foundations.watching import StepReport
    from tamtctl.foundations.working import Work
    from tamtctl.pruning.recovery.result import RecoverPlan
    from tamtctl.pruning.searching.result import SearchPlan
    from tamtctl.tasks.finetuning.result import FinetunePlan


Plan = TypeVar("Plan")


class View(Generic[Plan]):
    """Shows work as it goes; work that ends within a moment is not shown."""

    def __init__(self, output: Output) -> None:
        self._out = output.notes
        self._display = Display(self._out)
        answer_by(leave=self._display.show_cursor)

    def status(self, message: str) -> None:
        """Take note of what is being done now; it is shown if it takes long."""
        self._display.status(message, is_shown=False)

    def note(self, message: str) -> None:
        """Show a note that a person should read."""
        self._display.line(message)

    def plan(self, plan: Plan) -> None:
        """Show nothing of the plan; the views of training do."""

    def progress(self, report: StepReport) -> None:
        """Show nothing of a training step; the views of training do."""

    def begin(self, what: str, total: int | None, done: int, unit: str) -> Work:
        """Show work that begins."""
        return self._display.begin(what, total, done, unit)

    def close(self) -> None:
        """Leave the terminal as it was; also after an error."""
        self._display.close()


class _TrainingView(View[Plan]):
    """Shows a training as it goes: a progress bar, or plain lines."""

    def status(self, message: str) -> None:
        """Say what is being done now."""
        self._display.status(message)

    def progress(self, report: StepReport) -> None:
        """Show loss and speed."""
        self._describe(report, f"loss {report.loss:.3f}  {report.tokens_per_second:,.0f} tokens/s")

    def _describe(self, report: StepReport, text: str) -> None:
        self._display.describe(text)
        if self._display.is_due or report.is_last or report.eval_losses:
            self._display.say_where(in_bars=bool(report.eval_losses))


class SearchView(_TrainingView["SearchPlan"]):
    """Shows a search as it goes: first the plan, then every step."""

    def plan(self, plan: SearchPlan) -> None:
        """Say what will be done."""
        show_plan(self._out, plan)

    def progress(self, report: StepReport) -> None:
        """Show loss, flips and speed."""
        text = (
            f"loss {_with_unit(report.terms)}  flips {report.flips:.1%}  "
            f"{report.tokens_per_second:,.0f} tokens/s"
        )
        if report.eval_losses:
            text += f"  held-out loss {_with_unit(report.eval_losses)}"
        self._describe(report, text)


def _with_unit(terms: Mapping[str, float]) -> str:
    """Return the sum of an objective's terms with its unit."""
    return terms_of("+".join(terms)).written(f"{sum(terms.values()):.3f}")


class FinetuneView(_TrainingView["FinetunePlan"]):
    """Shows fine-tuning as it goes: first the plan, then every step of each seed."""

    def plan(self, plan: FinetunePlan) -> None:
        """Say what will be done."""
        show_finetune_plan(self._out, plan)


class RecoverView(_TrainingView["RecoverPlan"]):
    """Shows a recovery as it goes: first the plan, then every step."""

    def plan(self, plan: RecoverPlan) -> None:
        """Say what will be done."""
        show_recover_plan(self._out, plan)

    def progress(self, report: StepReport) -> None:
        """Show loss and speed."""
        speed = f"{report.tokens_per_second:,.0f} tokens/s"
        self._describe(report, f"loss {_with_unit(report.terms)}  {speed}")


class CompareView(_TrainingView["SearchPlan | FinetunePlan"]):
    """Shows a sweep as it goes: a line for every run, and its progress."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        # The notes of the plan at hand, which follow it, and those before it.
        self._has_plan = False
        self._own: frozenset[str] = frozenset()
        self._said: frozenset[str] = frozenset()

    def status(self, message: str) -> None:
        """Show what is being done only if it takes long: every search does the same."""
        self._display.status(message, is_shown=False)

    def note(self, message: str) -> None:
        """Show a note, unless one of the opening or of an earlier plan was the same."""
        if message in self._said:
            return
        super().note(message)
        if not self._has_plan:
            self._said |= {message}

    def plan(self, plan: SearchPlan | FinetunePlan) -> None:
        """Show in a line which run begins; the rest of the plan is the same for all."""
        from tamtctl.tasks.finetuning.result import FinetunePlan

        self._has_plan = True
        self._said |= self._own
        if isinstance(plan, FinetunePlan):
            self._own = frozenset(plan.notes)
            self.note(
                f"fine-tuning on {plan.task.name}: {plan.steps:,} steps a seed, learning rate "
                f"{plan.task.learning_rate:g}"
            )
        elif plan.steps:
            self._own = frozenset(plan.warnings)
            self.note(f"{plan.steps:,} steps, about {duration(plan.estimated_seconds)}")
            for warning in plan.warnings:
                self.note(warning)
