"""The calibration text of a model, and gathering its statistics in as few passes as possible."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tamtctl.data.batch import Batch
from tamtctl.data.noise import ORDER, random_numbers
from tamtctl.data.padding import IdArray
from tamtctl.data.sequences import Sequences
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.folders import size
from tamtctl.foundations.working import counted
from tamtctl.models.content import content_digest
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.statistics import STATISTICS, Statistic, cached
from tamtctl.pruning.statistics.capture import Capture
from tamtctl.pruning.statistics.gathering import BATCH, GradientGatherer, InputGatherer
from tamtctl.pruning.statistics.layout import Layout, run

SEED = 0  # for order and noise: every search gets the same statistics from the same text
_TOKENS_AT_ONCE = 2048
LEAST_BYTES = 2**28  # memory for statistics of inputs in a pass: at least this much,
BYTES_PER_WEIGHT = 8  # or this much for each weight, as Adam's moments take


def rows_at_once(sequence_length: int) -> int:
    """Return how many sequences go through the model at once: a power of 2, `BATCH` at most."""
    fitting = max(1, min(BATCH, _TOKENS_AT_ONCE // sequence_length))
    return 1 << (fitting.bit_length() - 1)


def calibration_batches(batches: Iterable[Batch], tokens: int, rows: int | None) -> list[Batch]:
    """Return the first batches with at least ``tokens`` tokens in all, or with ``rows`` rows.

    Args:
        batches: Endless batches of the training text, on the CPU.
        tokens: How many tokens are wanted.
        rows: How many rows the text has, so that none comes twice; None if unknown.
    """
    chosen: list[Batch] = []
    for batch in batches:
        if rows is not None:
            batch = batch.split(min(rows, len(batch.input_ids)))[0]
            rows -= len(batch.input_ids)
        chosen.append(batch)
        tokens -= batch.tokens
        if tokens <= 0 or rows == 0:
            break
    return chosen


def uncalibrated(text: Sequences, sequence_length: int, count: int) -> IdArray:
    """Return the indices of the sequences that a calibration reads last, if at all.

    Args:
        text: The training text.
        sequence_length: Most tokens of a sequence.
        count: How many sequences; of a short text only a tenth, and at least one.
    """
    order = text.order(random_numbers(ORDER, SEED, 0), rows_at_once(sequence_length), head=0)
    return order[-min(count, max(1, len(text) // 10)) :]


class Calibration:
    """The statistics of a model on a calibration text, each gathered or read only once."""

    def __init__(
        self,
        encoder: Encoder,
        batches: Sequence[Batch],
        compute: Compute,
        beside: Sequence[str] = (),
    ) -> None:
        """Prepare; the model runs only when a statistic is asked for.

        Args:
            encoder: The model on its device, without dropout; with its head if a statistic needs
                it.
            batches: The calibration text, see `calibration_batches`.
            compute: Device and precision.
            beside: Names of statistics that will be asked for later, and are gathered in the same
                pass.

        Raises:
            UsageError: There is no such statistic.
        """
        self._encoder, self._batches, self._compute = encoder, batches, compute
        self._beside = beside
        self._found: dict[str, cached.CachedStatistic] = {}
        self._asked: set[str] = set()

    @property
    def passes(self) -> frozenset[float]:
        """Seconds of each pass over the text that gave a statistic which was asked for."""
        return frozenset(self._found[name].seconds for name in self._asked)

    def __getitem__(self, name: str) -> Mapping[str, Tensor]:
        """Return name of a matrix → value of a statistic, on the CPU."""
        self.gather([name])
        return self._found[name].values

    def gather(self, names: Collection[str]) -> None:
        """Make sure that statistics are available: gather those that are not, together.

        Raises:
            UsageError: There is no such statistic.
        """
        if self._unknown(names):
            unknown = self._unknown([*names, *self._beside])
            started = time.perf_counter()
            gathered = self._gathered(unknown)
            seconds = time.perf_counter() - started
            for row, values in zip(unknown, gathered.values(), strict=True):
                self._found[row.name] = found = cached.CachedStatistic(values, seconds)
                if file := self._file_of(row):
                    cached.write(file, found)
        self._asked.update(names)

    def _unknown(self, names: Iterable[str]) -> list[Statistic]:
        """Read statistics from the cache, and return those that have to be gathered."""
        missing = [STATISTICS.find(one) for one in dict.fromkeys(names) if one not in self._found]
        for row in missing:
            if (file := self._file_of(row)) and (known := cached.read(file)):
                self._found[row.name] = known
        return [row for row in missing if row.name not in self._found]

    def _file_of(self, row: Statistic) -> Path | None:
        model = self._model_digest if row.needs_head else self._base_digest
        return cached.file_of(
            row, model, [*self._encoder.matrices], self._text_digest, self._compute
        )

    @cached_property
    def _text_digest(self) -> str:
        return cached.digest_of(self._batches)

    @cached_property
    def _model_digest(self) -> str:
        return content_digest(self._encoder)

    @cached_property
    def _base_digest(self) -> str:
        return content_digest(self._encoder, with_head=False)

    def _gathered(self, wanted: Sequence[Statistic]) -> dict[str, dict[str, Tensor]]:
        layout = Layout.of(self._encoder, self._batches[0].to(self._compute.device))
        found: dict[str, dict[str, Tensor]] = {row.name: {} for row in wanted}
        for number, names in enumerate(_passes(layout, wanted)):
            rows = [row for row in wanted if number == 0 or not row.is_of_gradients]
            for row, some in zip(rows, self._pass(layout, rows, names), strict=True):
                found[row.name] |= {name: value.cpu() for name, value in some.items()}
        for row in wanted:
            if not row.is_of_gradients:  # matrices with the same inputs share the statistic
                own = found[row.name]
                found[row.name] = {
                    name: own[leader] for name, leader in layout.leaders.items() if leader in own
                }
        return found

    def _pass(
        self, layout: Layout, rows: Sequence[Statistic], names: frozenset[str]
    ) -> list[dict[str, Tensor]]:
        """Read the text once; return name → value for each statistic.

        Args:
            layout: Where the matrices are used.
            rows: The statistics.
            names: The matrices whose inputs are wanted.
        """
        device, capture = self._compute.device, Capture(self._encoder, layout)
        gatherers: list[InputGatherer | GradientGatherer] = []
        by_loss: dict[Callable[..., Tensor], list[GradientGatherer]] = {}
        for row in rows:
            gatherer: Any = row.gatherer(layout.shapes, device)
            gatherers.append(gatherer)
            if row.is_of_gradients:
                by_loss.setdefault(row.loss, []).append(gatherer)
            else:
                capture.add_inputs(names, gatherer)
        with_head = any(row.needs_head for row in rows)
        states = bool(by_loss) and any(row.is_of_gradients and not row.needs_head for row in rows)
        text = self._split(one_by_one=bool(by_loss) and layout.has_common_inputs)
        what = f"gathering {size(_cost(layout, rows, names))} of statistics, batch"
        seen = 0
        with _frozen(self._encoder.model), torch.set_grad_enabled(bool(by_loss)):
            for number, batch in enumerate(counted(text, what, len(text))):
                batch = batch.to(device)
                with capture.batch(batch, gradients=bool(by_loss)):
                    with self._compute.autocast():
                        output = run(self._encoder, batch, with_head=with_head, states=states)
                    for left, (loss, to) in zip(
                        reversed(range(len(by_loss))), by_loss.items(), strict=True
                    ):
                        capture.backward(loss(output, batch, number), to, again=left > 0)
                seen += len(batch.input_ids)
                if seen % BATCH == 0 or number == len(text) - 1:
                    for gatherer in itertools.chain(*by_loss.values()):
                        gatherer.end_batch()
        return [gatherer.finish() for gatherer in gatherers]

    def _split(self, *, one_by_one: bool) -> Sequence[Batch]:
        if not one_by_one:
            return self._batches
        return [row for batch in self._batches for row in batch.split(1)]


def _passes(layout: Layout, wanted: Sequence[Statistic]) -> Iterator[frozenset[str]]:
    """Yield the names of matrices whose inputs a pass follows: as many as there is memory for."""
    weights = sum(rows * columns for rows, columns in layout.shapes.values())
    budget = max(LEAST_BYTES, BYTES_PER_WEIGHT * weights)
    of_inputs = [row for row in wanted if not row.is_of_gradients]
    names: list[str] = []
    for name in dict.fromkeys(layout.leaders.values()):
        if names and _cost(layout, of_inputs, [*names, name]) > budget:
            yield frozenset(names)
            names = []
        names.append(name)
    yield frozenset(names)


def _cost(layout: Layout, rows: Iterable[Statistic], names: Iterable[str]) -> int:
    """Return the bytes of statistics while they are gathered.

    Args:
        layout: Where the matrices are used.
        rows: The statistics; those of gradients always cover all matrices.
        names: The matrices whose inputs are followed.
    """
    return sum(
        row.cost(layout.shapes[name], is_table=name in layout.tables)
        for row in rows
        for name in (layout.shapes if row.is_of_gradients else names)
    )


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Within this context, compute no gradients of weights."""
    trained = [p for p in cast(nn.Module, model).parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
