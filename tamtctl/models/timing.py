"""Timing models in turns, so that other work on the machine slows all of them alike.

In each round every model runs once, in a new random order. A ratio to the dense model is the median
over rounds of the ratio of two runs in the same round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tamtctl.foundations.estimates import Interval, interval_of
from tamtctl.models.sizes import Size

_RESAMPLES = 2_000
_FEWEST_ROUNDS = 8  # fewer give no interval
_WARM_UP = 2  # runs of each model before it is timed

Seconds = NDArray[np.float64]  # seconds of each round, shape (rounds,)
Run = Callable[[Mapping[str, Tensor]], object]


@dataclass(frozen=True)
class Latency:
    """How long a run of a model takes, at one size.

    Attributes:
        median: Seconds of a run.
        quarter: A quarter of the runs took no longer.
        three_quarters: Three quarters of the runs took no longer.
        ratio: Ratio to the dense model's time in the same rounds; None without a dense model, and
            for the dense model itself.
    """

    median: float
    quarter: float
    three_quarters: float
    ratio: Interval | None

    @property
    def spread(self) -> float:
        """Interquartile range of the runs, as a share of the median."""
        return (self.three_quarters - self.quarter) / self.median


def run_of(network: nn.Module) -> Run:
    """Return a function that runs a model of transformers, with any head, on texts."""
    network.eval()

    def run(values: Mapping[str, Tensor]) -> object:
        with torch.inference_mode():
            return network(input_ids=values["input_ids"], attention_mask=values["attention_mask"])

    return run


def random_texts(size: Size, words: int, generator: torch.Generator) -> Mapping[str, Tensor]:
    """Return random tokens, (batch, length), none of them padding."""
    ids = torch.randint(words, (size.batch, size.length), generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }


@contextmanager
def threads_as_before() -> Iterator[None]:
    """Restore torch's number of threads after this context."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed_in_turns(
    runs: Sequence[Callable[[], object]], rounds: int, seed: int, tick: Callable[[int], None]
) -> list[Seconds]:
    """Return the seconds of each round for each of several models.

    Args:
        runs: Functions that run a model once.
        rounds: How often each model is timed.
        seed: Seed of the order in each round.
        tick: Is called with 1 after every run.
    """
    for run in runs:
        for _ in range(_WARM_UP):
            run()
    found = np.zeros((len(runs), rounds))
    order = np.random.default_rng(seed)
    for number in range(rounds):
        for which in order.permutation(len(runs)):
            started = time.perf_counter()
            runs[which]()
            found[which, number] = time.perf_counter() - started
            tick(1)
    return list(found)


def latency(seconds: Seconds, dense: Seconds | None, seed: int) -> Latency:
    """Return the latency of a model from the times of its rounds.

    Args:
        seconds: Seconds of each round.
        dense: Seconds of the dense model in the same rounds; None if there is none, or if it is the
            model itself.
        seed: Seed of the interval's bootstrap.
    """
    quarter, median, three_quarters = map(float, np.percentile(seconds, (25, 50, 75)))
    ratio = None if dense is None else _ratio(seconds / dense, seed)
    return Latency(median, quarter, three_quarters, ratio)


def _ratio(ratios: Seconds, seed: int) -> Interval:
    """Return the median ratio and its 95 % interval, by a bootstrap of the rounds."""
    value, rounds = float(np.median(ratios)), len(ratios)
    if rounds < _FEWEST_ROUNDS:
        why = f"too few to tell ({rounds} rounds; {_FEWEST_ROUNDS} are needed)"
        return Interval(value, None, None, why)
    drawn = np.random.default_rng(seed).integers(rounds, size=(_RESAMPLES, rounds))
    return Interval(value, *interval_of(np.median(ratios[drawn], axis=1)))


def as_json(one: Latency) -> dict[str, float | None]:
    """Return a latency as plain JSON values."""
    ratio = one.ratio
    return {
        "median": one.median,
        "quarter": one.quarter,
        "three_quarters": one.three_quarters,
        "ratio": None if ratio is None else ratio.value,
        "ratio_low": None if ratio is None else ratio.low,
        "ratio_high": None if ratio is None else ratio.high,
    }
