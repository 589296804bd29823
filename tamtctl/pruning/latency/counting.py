"""How many neurons to keep for a latency, from the latencies of a few numbers of them.

Latency rises with the number of neurons, but neither evenly nor without noise: it is measured at
quarters, interpolated, and measured where it should be right. Imports nothing of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

import numpy as np

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.estimates import Interval
from tamtctl.foundations.masks import keep_count

_STEPS = 64  # numbers of neurons that are told apart: of usual widths, multiples of 8
_QUARTERS = (0.25, 0.5, 0.75)
_CLOSE = 0.01  # a ratio as near as that to the target is good enough
_MOST_TRIED = 4  # numbers besides the quarters
_MOST_DIGITS = 18

# Numbers of neurons → each one's latency, as a share of the dense model's.
Measure = Callable[[Sequence[int]], Mapping[int, Interval]]


def count_for_latency(
    measure: Measure, target: float, neurons: int, what: str
) -> tuple[int, Interval]:
    """Return how many neurons have a latency next to the target, and the latency that they have.

    Args:
        measure: Measures numbers of neurons, several at a time.
        target: The latency that is asked for, as a share of the dense model's.
        neurons: How many the dense model has.
        what: What is timed, for the error.

    Raises:
        UsageError: A single neuron takes longer.
    """
    found = dict(measure(first_counts(neurons)))
    fewest = min(found)
    if found[fewest].value > target:
        raise UsageError(
            f"--latency {target:g} cannot be reached: with {fewest} of {neurons:,} neurons in each "
            f"layer {what} still takes {found[fewest].value:.2f} × the dense one's time "
            f"{found[fewest].brackets}; give more than that"
        )
    for _ in range(_MOST_TRIED):
        if abs(_nearest(found, target)[1].value - target) <= _CLOSE:
            break
        ratios = {count: one.value for count, one in found.items()}
        count = interpolated(ratios | {neurons: 1.0}, target, neurons)
        if count in found:
            break
        found |= measure([count])
    return _nearest(found, target)


def first_counts(neurons: int) -> tuple[int, ...]:
    """Return the numbers of neurons that are measured at first: one, and quarters."""
    return tuple(sorted({1, *(_whole(share * neurons, neurons) for share in _QUARTERS)}))


def interpolated(ratios: Mapping[int, float], target: float, neurons: int) -> int:
    """Return the number of neurons that should have a latency, by those on both sides.

    Args:
        ratios: Number of neurons → latency; where noise lets it fall, it is taken to stay.
        target: The latency.
        neurons: How many the dense model has, which are more than are returned.
    """
    counts = sorted(ratios)
    rising = np.maximum.accumulate([ratios[count] for count in counts])
    return _whole(float(np.interp(target, rising, counts)), neurons)


def sparsity_keeping(kept: int, of: int) -> float:
    """Return the sparsity with the fewest digits, two at least, that keeps so many.

    Args:
        kept: How many `tamtctl.foundations.masks.keep_count` is to keep.
        of: How many there are.
    """
    pruned = Decimal(of - kept) / of
    for digits in range(2, _MOST_DIGITS):
        share = float(pruned.quantize(Decimal(1).scaleb(-digits), ROUND_CEILING))
        if share < 1 and keep_count(of, share) == kept:
            return share
    raise AssertionError((kept, of))


def _whole(count: float, neurons: int) -> int:
    """Return the nearest number of whole steps, which prunes something and leaves something."""
    step = max(1, neurons // _STEPS)
    return max(1, min(round(count / step) * step, neurons - step))


def _nearest(found: Mapping[int, Interval], target: float) -> tuple[int, Interval]:
    """Return the number whose latency is next to the target; of equals the larger."""
    return min(found.items(), key=lambda item: (abs(item[1].value - target), -item[0]))
