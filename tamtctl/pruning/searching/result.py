"""The plan and the result of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tamtctl.data.units import BLOCKS
from tamtctl.foundations.measured_text import MeasuredText, SequenceFacts
from tamtctl.foundations.shown import Shown
from tamtctl.pruning.allocations import UNIFORM
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import baselines
from tamtctl.pruning.latency.record import FoundLatency
from tamtctl.ticket.parameter_counts import ParameterCounts
from tamtctl.training.run_folder import RunFolder

START = "start"  # the candidate that training started from, unless it is a baseline
_TABLES = ("losses", "standard_errors", "check_losses")  # fields of a result: candidate → number


@dataclass(frozen=True, repr=False)
class SearchPlan(Shown):
    """What a search is about to do.

    Attributes:
        config: The configuration.
        run_folder: The run's folder.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads of each process.
        model_type: The encoder's family.
        matrices: How many matrices are masked.
        weights: How many weights they hold.
        train_tokens: Tokens of the training text; None if it is streamed.
        held_out_tokens: Tokens of the held-out text.
        train_sequences: The sequences that the training text is cut into; None if it is streamed.
        held_out_sequences: The sequences that the held-out text is cut into.
        steps: Optimiser steps; 0 for one-shot methods.
        resumed_from: Steps that an earlier, interrupted run has done already.
        estimated_seconds: Seconds that the remaining steps take, from a timed probe.
        sparsities: ``embeddings`` and ``layers`` (all other matrices) → share of zeros in them.
        warnings: Lines that a person should read before it starts.
        processes: How many processes take part.
        latency: How many neurons or heads are kept for the wanted latency; None if there is none.

    Example:
        >>> plan = tamtctl.plan_search(config)
        >>> plan.device, plan.precision
        ('cpu', 'fp32')
    """

    config: SearchConfig
    run_folder: Path
    device: str
    precision: str
    threads: int
    model_type: str
    matrices: int
    weights: int
    train_tokens: int | None
    held_out_tokens: int
    train_sequences: SequenceFacts | None
    held_out_sequences: SequenceFacts
    steps: int
    resumed_from: int
    estimated_seconds: float
    sparsities: dict[str, float]
    warnings: tuple[str, ...] = ()
    processes: int = 1
    latency: FoundLatency | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self) | {
            "config": self.config.to_dict(),
            "run_folder": str(self.run_folder),
        }
        return _with_latency(values, self.latency)


@dataclass(frozen=True, repr=False)
class SearchResult(Shown):
    """The result of a search; ``losses`` has ``dense``, ``random``, ``magnitude`` and ``ticket``.

    The baselines ``random`` and ``magnitude`` have the same sparsity in every matrix. If training
    started from the mask of another criterion, ``losses`` has that mask as ``start``, too.

    Attributes:
        ticket: The ticket's folder.
        run_folder: The run's folder.
        model: The model, as the caller named it.
        corpus: The corpus, as the caller named it; several names are joined by spaces.
        method: ``tamt``, ``imp``, or the criterion of a one-shot mask, such as ``magnitude``.
        objective: The objective that the losses measure.
        sparsity: Share of zeros, measured over all masked weights.
        target_sparsity: The sparsity that was asked for, or that follows from a latency.
        steps: Optimiser steps done.
        seconds: Seconds of training.
        calibration_seconds: Seconds in which statistics were gathered for criteria, in this run or
            in the earlier one that cached them; a pass that several criteria share counts whole.
        tokens_per_second: Tokens per second of training, without padding and the first five steps.
        losses: Candidate → loss of the objective on held-out text, with the pre-trained head.
        standard_errors: Candidate → standard error of its loss; None with too few sequences.
        check_losses: Candidate → loss on ``check_corpus``; empty without one.
        flips: Share of mask bits that differ from the initial mask.
        bytes: Size of the ticket's files.
        stopped_early: Whether ``patience`` ended the training.
        resumed_from: The step that the run went on from; 0 if it began at the start.
        already_done: Whether an earlier run had found it.
        unit: The unit of the losses.
        sequences: Held-out sequences that the losses were taken on.
        sequence_length: Most tokens in a sequence.
        rows: What a sequence is, a name in `tamtctl.data.units.UNITS`.
        held_out: The whole held-out text: its ``name`` and its number of ``sequences``.
        init: The setting ``init``: the criterion, or the ticket, of the initial mask.
        changed: Whether training changed the initial mask; None if nothing was trained.
        allocation: The allocation, a name in `tamtctl.pruning.allocations.table.ALLOCATIONS`.
        sparsities: As in `SearchPlan`; empty in a result of an older version.
        parameters: How many parameters the encoder has and how many a pattern leaves; None for
            ``unstructured``.
        latency: The measured latency of the exported model, and the number of neurons or heads kept
            for it; None if no latency was asked for.

    Example:
        >>> result = tamtctl.search(config)
        >>> result.unit, result.ticket.name
        ('nats per masked token', 'ticket')
    """

    ticket: Path
    run_folder: Path
    model: str
    corpus: str
    method: str
    objective: str
    sparsity: float
    target_sparsity: float
    steps: int
    seconds: float
    tokens_per_second: float
    losses: dict[str, float]
    standard_errors: dict[str, float | None]
    check_losses: dict[str, float]
    flips: float
    bytes: int
    stopped_early: bool = False
    resumed_from: int = 0
    already_done: bool = False
    unit: str | None = None
    sequences: int | None = None
    sequence_length: int | None = None
    rows: str = BLOCKS
    held_out: dict[str, Any] | None = None
    init: str = "magnitude"
    changed: bool | None = None
    calibration_seconds: float = 0.0
    allocation: str = UNIFORM
    sparsities: dict[str, float] = field(default_factory=dict)
    parameters: ParameterCounts | None = None
    latency: FoundLatency | None = None

    @property
    def text(self) -> MeasuredText | None:
        """The text that the losses were taken on; None in a result of an older version."""
        if not (self.sequences and self.sequence_length and self.held_out):
            return None
        name, of = self.held_out["name"], self.held_out["sequences"]
        rows = None if self.rows == BLOCKS else self.rows
        return MeasuredText(name, self.sequences, of, self.sequence_length, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self) | {"ticket": str(self.ticket), "run_folder": str(self.run_folder)}
        if self.parameters is None:
            del values["parameters"]
        else:
            values["parameters"] = self.parameters.to_dict()
        return _with_latency(values, self.latency)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], run: RunFolder) -> SearchResult:
        """Return the result that `to_dict` wrote in an earlier run.

        Raises:
            TypeError: The fields are those of another version.
        """
        rows = in_order(values, candidates())
        if (counts := values.get("parameters")) is not None:
            rows["parameters"] = ParameterCounts(**counts)
        if (latency := values.get("latency")) is not None:
            rows["latency"] = FoundLatency.from_dict(latency)
        where = {"ticket": run.ticket, "run_folder": run.path, "already_done": True}
        return cls(**(dict(values) | rows | where))


def _with_latency(values: dict[str, Any], latency: FoundLatency | None) -> dict[str, Any]:
    """Return JSON values with the latency, or without the key if there is none."""
    others = {name: value for name, value in values.items() if name != "latency"}
    return others if latency is None else others | {"latency": latency.to_dict()}


def in_order(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a result's tables of losses, sorted by candidate, which a JSON file does not keep.

    Args:
        values: The plain JSON values of the result; tables that it lacks are left out.
        names: The candidates in the order in which they are measured.
    """
    return {
        key: {name: values[key][name] for name in names if name in values[key]}
        for key in _TABLES
        if key in values
    }


def candidates() -> tuple[str, ...]:
    """Return the names of the masks that a search measures, in the order of its tables."""
    return ("dense", *(row.name for row in reversed(baselines())), START, "ticket")
