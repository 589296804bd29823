"""How long a step takes, from a few whole ones."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from tamtctl.foundations.working import counted

AnyBatch = TypeVar("AnyBatch")


def seconds_per_step(
    batches: Iterator[AnyBatch],
    step: Callable[[AnyBatch], object],
    count: int,
    *,
    at_most: float = math.inf,
) -> float:
    """Return the mean seconds of steps; the first one warms up, and does not count.

    Args:
        batches: What steps are taken on.
        step: Takes one step, and returns when the device has done it.
        count: How many steps are timed, with the first.
        at_most: After so many seconds, and two steps, no more are timed.
    """
    seconds: list[float] = []
    for batch in counted(itertools.islice(batches, count), "timing a step", count):
        started = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - started)
        if len(seconds) > 1 and sum(seconds) > at_most:
            break
    measured = seconds[1:] or seconds
    return sum(measured) / len(measured)
