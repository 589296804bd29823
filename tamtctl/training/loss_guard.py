"""Giving up a training whose loss explodes."""

from __future__ import annotations

from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.watching import StepReport

_EXPLODED = 10.0  # times the first loss, if that was not below 1


class LossGuard:
    """Compares every loss of a training with the first one.

    Attributes:
        first: The first loss; None as long as there was none.
    """

    def __init__(self) -> None:
        """Know no loss yet."""
        self.first: float | None = None

    def check(self, report: StepReport) -> None:
        """Look at a report.

        Raises:
            DivergedError: The loss has exploded.
        """
        if self.first is None:
            self.first = report.loss
        if report.loss > _EXPLODED * max(self.first, 1.0):
            raise DivergedError(
                f"the loss exploded: {report.loss:.3g} at step {report.step}, "
                f"{self.first:.3g} at first; try a lower --learning-rate"
            )
