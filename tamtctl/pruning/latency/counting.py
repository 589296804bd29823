"""How many neurons, or heads, to keep for a latency, found by measuring a few numbers of them.

Latency rises with the number, but neither evenly nor without noise. So it is measured at one and at
quarters, interpolated, and measured again where it should meet the target.
Imports nothing of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

import numpy as np

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.estimates import Interval
from tamtctl.foundations.masks import keep_count

_STEPS = 64  # numbers that are distinguished; multiples of 8 neurons at usual widths
_QUARTERS = (0.25, 0.5, 0.75)
_CLOSE = 0.01  # a ratio this near to the target is good enough
_MOST_TRIED = 4  # most numbers measured besides the first ones
_MOST_DIGITS = 18

# Takes numbers of neurons or heads; returns number → latency, as a share of the dense model's.
Measure = Callable[[Sequence[int]], Mapping[int, Interval]]


def count_for_latency(
    measure: Measure, target: float, size: int, what: str, noun: str
) -> tuple[int, Interval]:
    """Return the number whose latency is nearest to the target, and this latency.

    Args:
        measure: Measures the latency of several numbers.
        target: The latency that is asked for, as a share of the dense model's.
        size: How many of them each layer of the dense model has.
        what: What is timed, for the error.
        noun: What is counted, neurons or heads, for the error.

    Raises:
        UsageError: Even with a single one in each layer the model is slower than the target, more
            than noise can be.
    """
    found = dict(measure(first_counts(size)))
    fewest = min(found)
    low = found[fewest].low
    if (found[fewest].value if low is None else low) > target:
        raise UsageError(
            f"--latency {target:g} cannot be reached: with {fewest} of {size:,} {noun} in each "
            f"layer {what} still takes {found[fewest].value:.2f} × the dense one's time "
            f"{found[fewest].brackets}; give more than that"
        )
    for _ in range(_MOST_TRIED):
        if abs(_nearest(found, target)[1].value - target) <= _CLOSE:
            break
        ratios = {count: one.value for count, one in found.items()}
        count = interpolated(ratios | {size: 1.0}, target, size)
        if count in found:
            break
        found |= measure([count])
    return _nearest(found, target)


def first_counts(size: int) -> tuple[int, ...]:
    """Return the numbers that are measured first: one, and the quarters."""
    return tuple(sorted({1, *(_whole(share * size, size) for share in _QUARTERS)}))


def interpolated(ratios: Mapping[int, float], target: float, size: int) -> int:
    """Return the number that should have a latency, interpolated between measured ones.

    Args:
        ratios: Number of neurons → latency; where noise makes it fall, it is taken as constant.
        target: The latency.
        size: How many of them each layer of the dense model has; the result is smaller.
    """
    counts = sorted(ratios)
    rising = np.maximum.accumulate([ratios[count] for count in counts])
    return _whole(float(np.interp(target, rising, counts)), size)


def sparsity_keeping(kept: int, of: int) -> float:
    """Return the sparsity with the fewest decimals, at least two, that keeps ``kept`` of ``of``.

    Args:
        kept: How many `tamtctl.foundations.masks.keep_count` has to keep.
        of: How many there are.
    """
    pruned = Decimal(of - kept) / of
    for digits in range(2, _MOST_DIGITS):
        share = float(pruned.quantize(Decimal(1).scaleb(-digits), ROUND_CEILING))
        if share < 1 and keep_count(of, share) == kept:
            return share
    raise AssertionError((kept, of))


def _whole(count: float, size: int) -> int:
    """Round a number to whole steps, of which at least one is pruned."""
    step = max(1, size // _STEPS)
    return max(1, min(round(count / step) * step, size - step))


def _nearest(found: Mapping[int, Interval], target: float) -> tuple[int, Interval]:
    """Return the number whose latency is nearest to the target; of equals the larger."""
    return min(found.items(), key=lambda item: (abs(item[1].value - target), -item[0]))
