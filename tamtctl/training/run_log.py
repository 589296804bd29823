"""What is written of a run step by step: ``metrics.jsonl`` always, TensorBoard on demand."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.watching import StepReport
from tamtctl.training.run_folder import METRICS, TENSORBOARD

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def check_log_to(log_to: str | None) -> None:
    """Raise UsageError if what a run shall log to is not installed."""
    if log_to and importlib.util.find_spec(log_to) is None:
        raise UsageError(f"--log-to {log_to} needs a package: pip install {log_to}")


class RunLog:
    """Writes each report of a run, as soon as it is made."""

    def __init__(self, folder: Path, log_to: str | None, after_step: int) -> None:
        """Open the files of a run that is about to take the step after ``after_step``."""
        self._metrics = (folder / METRICS).open("a", encoding="utf-8", buffering=1)
        self._writer: SummaryWriter | None = None
        if log_to == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            purge = after_step + 1 if after_step else None
            self._writer = SummaryWriter(folder / TENSORBOARD, purge_step=purge)

    def __enter__(self) -> Self:
        """Write until the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self._metrics.close()
        if self._writer:
            self._writer.close()

    def write(self, report: StepReport) -> None:
        """Write a report."""
        values: dict[str, Any] = asdict(report) | {"loss": report.loss}
        self._metrics.write(json.dumps(values) + "\n")
        if not self._writer:
            return
        for name in ("loss", "learning_rate", "flips", "tokens_per_second"):
            self._writer.add_scalar(name, values[name], report.step)
        for group in ("terms", "eval_losses"):
            for term, loss in values[group].items():
                self._writer.add_scalar(f"{group}/{term}", loss, report.step)
