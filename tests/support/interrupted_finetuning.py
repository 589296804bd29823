"""A watcher that interrupts a fine-tuning run."""

from __future__ import annotations

from tamtctl.foundations.watching import Silent, StepReport


class Interrupting(Silent):
    """A watcher that ends the run by an error of its own after a step."""

    def __init__(self, after: int = 10**9) -> None:
        self.after = after
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def progress(self, report: StepReport) -> None:
        if report.step >= self.after:
            raise EOFError
