"""Cost of calibration, as ratios to the mask training that follows it, on the same tokens.

Random weights in real shapes and random text, on a CPU in fp32. The pass is timed by the progress
that it tells of; all else that a one-shot mask takes (finding where layers are used, inverting Gram
matrices, hashing and keeping, ranking, selecting) is what criteria cost. Memory is that of a
process of its own for each. For comparison, the squared gradients of sequences are taken with a
backward pass for each, as one would without knowing better.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from rich.console import Console
from rich.table import Table

from tamtctl.data.batches import training_batches
from tamtctl.data.noise import Noise
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.working import Work, heard_by
from tamtctl.pruning.criteria import find_criterion
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.one_shot import keep_counts, one_shot_masks
from tamtctl.pruning.statistics.calibration import Calibration, calibration_batches, rows_at_once

from .memory import peaks_of
from .search import SHAPES, SPARSITY, Clock, Ours, Shape, blocks_of, encoder_of

CRITERIA = ("wanda", "obs", "fisher", "fisher-kd", "obs*fisher")
GOAL = "obs*fisher"
PASS, RANKING, MEMORY = 1.3, 10.0, 1.0  # times a training step a token, steps, a search's peak
BATCHES, STEPS = 2, 3


def main() -> bool:
    """Measure, print a table for each shape, and return whether all goals are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks calibration")
    parser.add_argument(
        "--busy", action="store_true", help="processor time of one thread, on a busy machine"
    )
    names = list(map(str, SHAPES))
    parser.add_argument("--shapes", nargs="*", choices=names, default=names, metavar="SHAPE")
    parser.add_argument("--criteria", nargs="*", default=CRITERIA, metavar="CRITERION")
    parser.add_argument("--peak", help="the peak of this criterion, or of a search, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1 if options.busy else 2)
    shapes = [replace(shape, rows=16) for shape in SHAPES if str(shape) in options.shapes]
    if options.peak:
        print(json.dumps(peaks_of(_work(options.peak, shapes[0]))["peak"]))  # noqa: T201
        return True
    clock = time.process_time if options.busy else time.perf_counter
    console, met = Console(width=120), []
    for shape in shapes:
        table, goals_met = _measured(shape, options.criteria, clock, options.busy)
        console.print(table)
        met.append(goals_met)
    console.print(
        f"goals of {GOAL}: pass {PASS} times a step, ranking {RANKING:g} steps, memory "
        f"{MEMORY:g} times that of the search: {all(met)}"
    )
    return all(met)


def _measured(
    shape: Shape, criteria: Sequence[str], clock: Clock, is_busy: bool
) -> tuple[Table, bool]:
    training = Ours(shape, "mlm", clock)
    step = statistics.median(_seconds(training.step, clock) for _ in range(STEPS + 1))
    del training
    weights = sum(w.numel() for w in encoder_of(shape).weights.values())
    title = (
        f"{shape}, {weights / 1e6:.0f} M weights, {shape.rows}x{shape.length} tokens a step of "
        f"{step * 1e3:.0f} ms, {torch.get_num_threads()} threads"
    )
    table = Table("criterion", title=title, title_justify="left")
    for column in ("pass, ÷ step a token", "all else, steps", "peak MiB", "÷ search"):
        table.add_column(column, justify="right")
    search = _peak("search", shape, is_busy)
    met = True
    for name in criteria:
        taken = Taken(shape, name, clock)
        ratio, rest = taken.reading / taken.tokens * shape.rows * shape.length / step, taken.rest
        peak = _peak(name, shape, is_busy)
        table.add_row(
            name, f"{ratio:.2f}", f"{rest / step:.2f}", f"{peak:,.0f}", f"{peak / search:.2f}"
        )
        if name == GOAL:
            met = ratio <= PASS and rest / step <= RANKING and peak / search <= MEMORY
    naive = _seconds(squares_one_by_one(shape), clock) / step
    table.add_row("fisher, a backward pass for each sequence", f"{naive:.2f}", "", "", "")
    table.add_row("search", "1.00", "", f"{search:,.0f}", "1.00")
    return table, met


@dataclass
class Taken:
    """What a one-shot mask took: the passes over the text, and all else.

    Attributes:
        shape: The model.
        name: The criterion.
        clock: Tells the seconds.
        tokens: Of the text.
        reading: Seconds of the passes.
        rest: All other seconds.
    """

    shape: Shape
    name: str
    clock: Clock
    tokens: int = 0
    reading: float = 0.0
    rest: float = 0.0
    _began: float = field(default=0.0, init=False)
    _is_pass: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        encoder = encoder_of(self.shape)
        encoder.model.eval()
        rows = rows_at_once(self.shape.length)
        text = training_batches(blocks_of(self.shape), rows, 0, noise=Noise.of(encoder.tokenizer))
        batches = calibration_batches(text, BATCHES * rows * self.shape.length, None)
        self.tokens = sum(batch.tokens for batch in batches)
        keep = keep_counts(encoder.weights, SPARSITY)
        with tempfile.TemporaryDirectory() as cache, heard_by(self):
            os.environ["TAMTCTL_CACHE"] = cache
            started = self.clock()
            calibration = Calibration(encoder, batches, Compute.choose("cpu", "fp32"))
            calibration.gather(find_criterion(self.name).statistics)
            context = Context(weights=encoder.weights, calibration=calibration, keep=keep)
            one_shot_masks(self.name, context, keep)
            self.rest = self.clock() - started - self.reading

    def begin(self, what: str, total: int | None, done: int, unit: str) -> Work:
        """Be told that some work begins, such as a pass."""
        self._began, self._is_pass = self.clock(), what.endswith("batch")
        return self

    def advance(self, count: int = 1) -> None:
        """A batch is done."""

    def end(self) -> None:
        """Be told that the work is over."""
        self.reading += (self.clock() - self._began) * self._is_pass


def squares_one_by_one(shape: Shape) -> Callable[[], None]:
    """Return what takes the squared gradients of a batch with a backward pass for each sequence."""
    encoder = encoder_of(shape)
    noise = Noise.of(encoder.tokenizer)
    batch = next(training_batches(blocks_of(shape), shape.rows, 0, noise=noise))
    found = {name: torch.zeros_like(p) for name, p in encoder.matrices.items()}
    head: Any = encoder.model.cls

    def work() -> None:
        for row in batch.split(1):
            states = encoder.base(input_ids=row.input_ids).last_hidden_state
            logits = head(states.flatten(0, 1)[row.masked])
            F.cross_entropy(logits, row.labels, reduction="sum").backward()
            for name, parameter in encoder.matrices.items():
                assert parameter.grad is not None
                found[name].addcmul_(parameter.grad, parameter.grad)
            encoder.model.zero_grad()

    return work


def _work(name: str, shape: Shape) -> Callable[[], None]:
    if name != "search":
        return lambda: _discarded(Taken(shape, name, time.perf_counter))

    def train() -> None:
        training = Ours(shape, "mlm")
        for _ in range(2):
            training.step()

    return train


def _discarded(_: object) -> None:
    """Nothing is left to do."""


def _peak(name: str, shape: Shape, is_busy: bool) -> float:
    command = [sys.executable, "-m", "tests.benchmarks", "calibration", "--peak", name]
    command += ["--shapes", str(shape), *["--busy"] * is_busy]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _seconds(work: Callable[[], object], clock: Clock) -> float:
    started = clock()
    work()
    return clock() - started
