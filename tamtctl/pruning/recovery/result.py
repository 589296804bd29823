"""The plan and the result of a recovery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.measured_text import MeasuredText, SequenceFacts
from tamtctl.foundations.shown import Shown
from tamtctl.pruning.recovery.config import RecoverConfig
from tamtctl.pruning.searching.result import in_order
from tamtctl.training.run_folder import RunFolder

DENSE, TICKET, RECOVERED = CANDIDATES = ("dense", "ticket", "recovered")


@dataclass(frozen=True, repr=False)
class RecoverPlan(Shown):
    """What a recovery is about to do.

    Attributes:
        config: The configuration, with text and sequence length filled in.
        run_folder: The run's folder.
        base_model: The ticket's base model, as it is loaded.
        sparsity: Share of zeros in the ticket's matrices.
        trained: How many weights are trained.
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads.
        train_sequences: The sequences that the training text is cut into.
        held_out_sequences: The sequences that the held-out text is cut into.
        steps: Optimiser steps, as asked for or as many as fit in the minutes.
        resumed_from: Steps that an earlier, interrupted run has done already.
        estimated_seconds: Seconds that the remaining steps take, from timed ones.
    """

    config: RecoverConfig
    run_folder: Path
    base_model: str
    sparsity: float
    trained: int
    device: str
    precision: str
    threads: int
    train_sequences: SequenceFacts
    held_out_sequences: SequenceFacts
    steps: int
    resumed_from: int
    estimated_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {
            "config": self.config.to_dict(),
            "run_folder": str(self.run_folder),
        }


@dataclass(frozen=True, repr=False)
class RecoverResult(Shown):
    """The result of a recovery; ``losses`` has the keys ``dense``, ``ticket`` and ``recovered``.

    Attributes:
        model: The checkpoint's folder.
        run_folder: The run's folder.
        ticket: The ticket, as the caller named it.
        base_model: The ticket's base model.
        objective: The objective that was trained for, and that the losses measure.
        sparsity: Share of zeros in the ticket's matrices.
        zeros: Number of pruned weights, all of them zero in the checkpoint; 0 if the checkpoint
            leaves them out, as it does with whole neurons.
        steps: Optimiser steps done.
        seconds: Seconds of training.
        tokens_per_second: Tokens per second of training, without padding and the first five steps.
        losses: Candidate → loss on held-out text, with the pre-trained head.
        standard_errors: Candidate → standard error of its loss; None with too few sequences.
        check_losses: Candidate → loss on ``check_corpus``; empty without one.
        unit: The unit of the losses.
        sequences: Held-out sequences that the losses were taken on.
        sequence_length: Most tokens in a sequence.
        rows: What a sequence is, a name in `tamtctl.data.units.UNITS`; None for packed blocks.
        held_out: The whole held-out text: its ``name`` and its number of ``sequences``.
        load: A line of Python that loads the checkpoint with the right class.
        bytes: Size of the checkpoint's files.
        resumed_from: The step that the run went on from; 0 if it began at the start.
        already_done: Whether an earlier run had finished it.

    Example:
        >>> recovered = tamtctl.recover(recovery)
        >>> recovered.sparsity, recovered.steps
        (0.5, 2)
    """

    model: Path
    run_folder: Path
    ticket: str
    base_model: str
    objective: str
    sparsity: float
    zeros: int
    steps: int
    seconds: float
    tokens_per_second: float
    losses: dict[str, float]
    standard_errors: dict[str, float | None]
    check_losses: dict[str, float]
    unit: str
    sequences: int
    sequence_length: int
    rows: str | None
    held_out: dict[str, Any]
    load: str
    bytes: int
    resumed_from: int = 0
    already_done: bool = False

    @property
    def text(self) -> MeasuredText:
        """The text that the losses were taken on."""
        return MeasuredText(
            self.held_out["name"],
            self.sequences,
            self.held_out["sequences"],
            self.sequence_length,
            self.rows,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"model": str(self.model), "run_folder": str(self.run_folder)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], run: RunFolder, model: Path) -> RecoverResult:
        """Return the result that `to_dict` wrote in an earlier run.

        Raises:
            TypeError: The fields are those of another version.
        """
        tables = in_order(values, CANDIDATES)
        where = {"model": model, "run_folder": run.path, "already_done": True}
        return cls(**(dict(values) | tables | where))
