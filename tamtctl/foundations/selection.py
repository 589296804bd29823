"""Selecting exactly so many largest values of a matrix, as a mask.

Equal values are common, since the scores of words that never occur in the text never change. Among
equal values the larger |w| is kept, and then the lower flat index.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.foundations.masks import largest

_BLOCK = 2**18  # values processed at once, few enough for the processor's cache
_MOST_RANKED = 1 / 64  # largest share of a matrix that may lie in the window and be ranked
_NARROWEST, _WIDEST = 1e-6, 1.0  # half-widths of windows; beyond, everything is ranked


def keep_largest(values: Tensor, keep: int, among_equals: Tensor | None = None) -> Tensor:
    """Return the mask of exactly ``keep`` largest values, of the shape of ``values``.

    Among equal values the larger ``among_equals`` is kept, and then the lower flat index.
    """
    if values.device.type not in ("cpu", "mps"):
        return keep_largest_on_device(values, keep, among_equals)
    flat = values.numpy(force=True).ravel()  # (n,)
    rank = None if among_equals is None else among_equals.numpy(force=True).ravel()
    return torch.from_numpy(largest(flat, keep, rank)).view(values.shape).to(values.device)


def keep_largest_in_rows(values: Tensor, keep: int, among_equals: Tensor | None = None) -> Tensor:
    """Return the mask of exactly ``keep`` values, with equal numbers in all rows, or one more.

    Each row keeps its largest values. The rows that keep one more are those whose next value is the
    largest, the earlier ones on a tie.

    Args:
        values: Shape (R, C).
        keep: Number of values that are kept in all.
        among_equals: As for `keep_largest`, shape (R, C).
    """
    table = values.numpy(force=True)
    ranks = None if among_equals is None else among_equals.numpy(force=True)
    rows, columns = table.shape
    each, more = divmod(keep, rows)
    counts = np.full(rows, each)
    if more:
        place = columns - 1 - each
        counts += largest(np.partition(table, place, axis=1)[:, place], more)
    mask = np.empty(table.shape, bool)
    for i, count in enumerate(counts):
        mask[i] = largest(table[i], int(count), None if ranks is None else ranks[i])
    return torch.from_numpy(mask).to(values.device)


def keep_largest_on_device(values: Tensor, keep: int, among_equals: Tensor | None = None) -> Tensor:
    """Return what `keep_largest` does, computed on the device without waiting for it."""
    if keep in (0, values.numel()):
        return torch.full_like(values, keep > 0, dtype=torch.bool)
    rank = values.flatten()  # (n,)
    above, equal = _split_at_kth_largest(rank, keep)
    if among_equals is not None:
        # Values above come first and values below last, so that the k-th largest is among the equal
        # ones.
        rank = (
            among_equals.flatten()
            .masked_fill(above, torch.inf)
            .masked_fill(~(above | equal), -torch.inf)
        )
        above, equal = _split_at_kth_largest(rank, keep)
    first = equal.cumsum(0, dtype=torch.int32) <= keep - above.sum()
    return (above | (equal & first)).view_as(values)


def _split_at_kth_largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return two masks, (n,): values above the k-th largest, and values equal to it."""
    if k <= len(values) // 2:
        kth = values.topk(k, sorted=False).values.amin()
    else:
        kth = values.topk(len(values) - k + 1, largest=False, sorted=False).values.amax()
    return values > kth, values == kth


class Cut:
    """Follows the exact threshold of one matrix from step to step, on a CPU.

    From one step to the next a threshold hardly moves. Values above a narrow window around the last
    threshold are kept, values below it are not, and only the few values within are ranked. If the
    window is too narrow, it is widened, in the end to everything, so that the kept values are
    always those of `keep_largest`.

    Attributes:
        keep: Number of values that are kept.
        threshold: Values above it are kept.
        kept_equals: Flat indices of values equal to it that are kept, too.
    """

    def __init__(self, keep: int, threshold: float) -> None:
        self.keep, self.threshold = keep, threshold
        self.kept_equals = np.empty(0, np.int64)
        self._reach = 0.0  # half-width of the window

    def follow(self, values: Tensor, weights: Tensor) -> None:
        """Find the threshold of the new values; among equal values the larger |w| is kept.

        Raises:
            ValueError: Too many values are NaN.
        """
        flat = values.numpy().ravel()  # (n,)
        reach = self._reach
        while True:
            low, high = map(flat.dtype.type, (self.threshold - reach, self.threshold + reach))
            above, near = _count_above_and_find_within(flat, low, high)
            missing = self.keep - above
            if 0 <= missing <= near.size:
                break
            if math.isinf(reach):
                raise ValueError("values are not numbers")
            reach = max(8 * reach, _NARROWEST) if reach < _WIDEST else math.inf
        candidates = flat[near]
        chosen = largest(candidates, missing, np.abs(weights.numpy().ravel()[near]))
        threshold = low if chosen.all() else candidates[~chosen].max()
        self.kept_equals = near[chosen & (candidates == threshold)]
        moved = abs(float(threshold) - self.threshold)
        fair = reach * _MOST_RANKED * flat.size / max(near.size, 1)
        self._reach = min(max(self._reach / 2, 2 * moved), fair)
        self.threshold = float(threshold)

    def mask(self, values: Tensor) -> Tensor:
        """Return the mask of the values that `follow` was last called with."""
        mask = values > self.threshold
        mask.view(-1)[self.kept_equals] = True
        return mask


def _count_above_and_find_within(
    values: NDArray[Any], low: Any, high: Any
) -> tuple[int, NDArray[np.int64]]:
    """Return the number of values above ``high``, and the indices of those in (low, high].

    One thread is as fast as several, since half of the work holds Python's lock.
    """
    count, within = 0, []
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        above = block > high
        count += int(np.count_nonzero(above))
        within.append(np.flatnonzero(above != (block > low)) + start)
    return count, np.concatenate(within)
