"""Giving up a training whose loss explodes."""

from __future__ import annotations

from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.watching import StepReport

_EXPLODED = 10.0  # times the first loss, or times 1 if that is larger


class LossGuard:
    """Compares every loss of a training with the first one.

    Attributes:
        first: The first loss; None before there was one.
    """

    def __init__(self) -> None:
        """Start without a loss to compare with."""
        self.first: float | None = None

    def check(self, report: StepReport) -> None:
        """Check the loss of a report.

        Raises:
            DivergedError: The loss is more than ten times the first one, or 10 if that was below 1.
        """
        if self.first is None:
            self.first = report.loss
        if report.loss > _EXPLODED * max(self.first, 1.0):
            raise DivergedError(
                f"the loss exploded: {report.loss:.3g} at step {report.step}, "
                f"{self.first:.3g} at first; try a lower --learning-rate"
            )
