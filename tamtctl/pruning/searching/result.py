"""What a search is about to do, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tamtctl.data.units import BLOCKS
from tamtctl.foundations.loss_units import ScoredText, SequenceFacts
from tamtctl.foundations.shown import Shown
from tamtctl.pruning.allocations import UNIFORM
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import baselines
from tamtctl.pruning.latency.record import FoundLatency
from tamtctl.ticket.parameter_counts import ParameterCounts
from tamtctl.training.run_folder import RunFolder

START = "start"  # the mask that training started from, if it is no baseline
_TABLES = ("losses", "standard_errors", "check_losses")  # fields of a result: loss by candidate


@dataclass(frozen=True, repr=False)
class SearchPlan(Shown):
    """What a search is about to do.

    Attributes:
        config: The configuration.
        run_folder: Where the run will live.
        device: Where it computes: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads of each process.
        model_type: The encoder's family.
        matrices: How many matrices are masked.
        weights: How many weights they hold.
        train_tokens: Size of the training text; None if it is streamed.
        held_out_tokens: Size of the held-out text.
        train_sequences: What the training text is cut into; None if it is streamed.
        held_out_sequences: What the held-out text is cut into.
        steps: Optimiser steps; 0 for one-shot methods.
        resumed_from: Steps that an earlier, interrupted run has done already.
        estimated_seconds: Seconds that the remaining steps take, from a timed probe.
        sparsities: Part of the model → share of its zeros: ``embeddings`` and ``layers``, which are
            all other matrices.
        warnings: What a person should know before it starts.
        processes: How many take part.
        latency: How many neurons the latency takes that is asked for; None if none is.

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
    """What a search found; ``losses`` map ``dense``, ``random``, ``magnitude`` and ``ticket``.

    The baselines have the same sparsity in every matrix. Where training started from another mask
    of a criterion than one of them, ``start`` is its loss.

    Attributes:
        ticket: The ticket's folder.
        run_folder: The run's folder.
        model: As asked for.
        corpus: As asked for.
        method: ``tamt``, ``imp``, ``magnitude`` or ``random``.
        objective: What the losses measure.
        sparsity: Share of zeros, measured over all masked weights.
        target_sparsity: As asked for.
        steps: Optimiser steps done.
        seconds: Seconds of training.
        calibration_seconds: How long criteria looked at text before, in this run or in an earlier
            one of the same model and text; what several learn in one pass counts whole.
        tokens_per_second: Tokens per second of training, without padding and the first five steps.
        losses: Mask → loss of the objective on held-out text, with the pre-trained head.
        standard_errors: Mask → error of its loss; None where sequences are too few to tell.
        check_losses: The same on ``check_corpus``; empty without one.
        flips: Share of the mask that differs from the initial one.
        bytes: Size of the ticket's files.
        stopped_early: Whether ``patience`` ended the training.
        resumed_from: The step that the run went on from; 0 if from the start.
        already_done: Whether an earlier run had found it.
        unit: The unit of the losses.
        sequences: Held-out sequences that the losses were taken on.
        sequence_length: Tokens of each, at most.
        rows: What each is, a name in `tamtctl.data.units.UNITS`.
        held_out: The whole held-out text: what it is, and how many sequences it has.
        init: What the mask was at first: ``magnitude``, ``random`` or a ticket.
        changed: Whether training moved the mask from there; None if nothing was trained.
        allocation: How the weights that are kept are shared out over the matrices.
        sparsities: Part of the model → share of its zeros, as in `SearchPlan`; empty if an older
            version did not write it down.
        parameters: How many the encoder has and how many are left, of a pattern; None of any
            weights.
        latency: How long the exported model takes beside the dense one, and how many neurons were
            chosen for it; None if no latency was asked for.

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
    def text(self) -> ScoredText | None:
        """What the losses were taken on; None if an older version did not write it down."""
        if not (self.sequences and self.sequence_length and self.held_out):
            return None
        name, of = self.held_out["name"], self.held_out["sequences"]
        rows = None if self.rows == BLOCKS else self.rows
        return ScoredText(name, self.sequences, of, self.sequence_length, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self) | {"ticket": str(self.ticket), "run_folder": str(self.run_folder)}
        if self.parameters is None:
            del values["parameters"]
        return _with_latency(values, self.latency)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], run: RunFolder) -> SearchResult:
        """Return the result that `to_dict` wrote, of a run that was done before.

        Raises:
            TypeError: It has other fields, as those of another version.
        """
        rows = in_order(values, candidates())
        if (counts := values.get("parameters")) is not None:
            rows["parameters"] = ParameterCounts(**counts)
        if (latency := values.get("latency")) is not None:
            rows["latency"] = FoundLatency.from_dict(latency)
        where = {"ticket": run.ticket, "run_folder": run.path, "already_done": True}
        return cls(**(dict(values) | rows | where))


def _with_latency(values: dict[str, Any], latency: FoundLatency | None) -> dict[str, Any]:
    """Return JSON values with a latency, which those of a search for none have no room for."""
    others = {name: value for name, value in values.items() if name != "latency"}
    return others if latency is None else others | {"latency": latency.to_dict()}


def in_order(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the tables of losses of a result in the order of candidates, which no file keeps.

    Args:
        values: The plain JSON values of the result; what they lack is left out.
        names: The candidates in the order in which they are measured.
    """
    return {
        key: {name: values[key][name] for name in names if name in values[key]}
        for key in _TABLES
        if key in values
    }


def candidates() -> tuple[str, ...]:
    """Return the masks that a search measures, what is farthest from a ticket first."""
    return ("dense", *(row.name for row in reversed(baselines())), START, "ticket")
