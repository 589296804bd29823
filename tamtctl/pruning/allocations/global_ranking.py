"""Global: one threshold on the importance of all weights, in whichever matrix they are.

Global pruning was used on networks at initialisation by Lee et al. (2019, arXiv:1810.02340). The
number of weights that all matrices keep together is exact: where several weights lie on the
threshold, those of the first matrices are kept. A floor stops a matrix from losing all of its
weights (layer collapse: Tanaka et al., 2020, arXiv:2006.05467).

Relations: it compares importances across matrices, and so needs a criterion that has the same unit
in all of them. It prunes the embeddings most; `by_type` leaves them out.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.masks import keep_count
from tamtctl.pruning.allocations.request import Request

_SAMPLE = 2**20  # most weights that are sorted to say where to look for the threshold
_MARGIN = 0.02  # share of the sample on either side of the place where the threshold should be


def keep(request: Request) -> Mapping[str, int]:
    """Return name → how many weights a matrix keeps, for all matrices that have importances."""
    return share_out(request.importance, request)


def share_out(importance: Mapping[str, Tensor], request: Request) -> dict[str, int]:
    """Return name → how many weights a matrix keeps if the given matrices share one threshold.

    Args:
        importance: Name → importance of every weight, for the matrices that share the threshold.
        request: Their sparsity and their floor.

    Raises:
        UsageError: The floor keeps more weights than the sparsity does, or an importance is
            negative or infinite.
    """
    if not importance:
        return {}
    total = sum(one.numel() for one in importance.values())
    wanted = keep_count(total, request.sparsity)
    # At most a share of 1 - floor is pruned; with a floor, a matrix keeps at least one weight.
    least = {
        name: max(one.numel() - keep_count(one.numel(), request.floor), 1 if request.floor else 0)
        for name, one in importance.items()
    }
    if sum(least.values()) > wanted:
        raise UsageError(
            f"--floor {request.floor:g} keeps {sum(least.values()):,} of {total:,} weights, and "
            f"--sparsity {request.sparsity:g} {wanted:,}; the highest sparsity is "
            f"{int(1e4 * (1 - sum(least.values()) / total)) / 1e4:g}, unless --floor is lower"
        )
    importance = {name: _single(one) for name, one in importance.items()}
    threshold = _threshold(importance, least, wanted)
    counts = {
        name: max(least[name], int((one > threshold).count_nonzero()))
        for name, one in importance.items()
    }
    missing = wanted - sum(counts.values())
    for name, one in importance.items():
        more = min(
            missing, max(least[name], int((one >= threshold).count_nonzero())) - counts[name]
        )
        counts[name] += more
        missing -= more
    return counts


def _threshold(importance: Mapping[str, Tensor], least: Mapping[str, int], wanted: int) -> float:
    """Return the largest threshold at which at least ``wanted`` weights are kept, floors included.

    Read as integers, the bits of non-negative 32-bit floats have the order of the floats. So 31
    bisections of that integer find the threshold exactly, without sorting. A sample brackets it
    first, and then only the few weights inside the bracket are counted at each bisection.
    """

    def reach(at: float, among: Mapping[str, Tensor], beyond: Mapping[str, int]) -> int:
        counts = {
            n: beyond.get(n, 0) + int((one >= at).count_nonzero()) for n, one in among.items()
        }
        return sum(max(least[name], count) for name, count in counts.items())

    low, high = _bracket(importance, wanted)
    low = low if reach(low, importance, {}) >= wanted else 0.0
    high = high if reach(high, importance, {}) < wanted else float("inf")
    near = {name: one[(one >= low) & (one < high)] for name, one in importance.items()}
    beyond = {name: int((one >= high).count_nonzero()) for name, one in importance.items()}
    enough, too_few = _bits(low), _bits(high)
    while too_few - enough > 1:
        middle = (enough + too_few) // 2
        if reach(_float(middle), near, beyond) >= wanted:
            enough = middle
        else:
            too_few = middle
    return _float(enough)


def _bracket(importance: Mapping[str, Tensor], wanted: int) -> tuple[float, float]:
    """Return a lower and an upper number that probably bracket the threshold, from a sample."""
    total = sum(one.numel() for one in importance.values())
    step = -(-total // _SAMPLE)
    sample = torch.cat([one.flatten()[::step].cpu() for one in importance.values()])
    sample = sample.sort(descending=True).values
    place, margin = round(wanted / total * len(sample)), math.ceil(_MARGIN * len(sample))
    low, high = min(place + margin, len(sample) - 1), max(place - margin, 0)
    return float(sample[low]), float(sample[high])


def _bits(value: float) -> int:
    return int(struct.unpack("<i", struct.pack("<f", value))[0])


def _float(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<i", bits))[0])


def _single(importance: Tensor) -> Tensor:
    """Return importances as 32-bit floats, as `_threshold` needs them.

    Raises:
        UsageError: One of them is negative or infinite.
    """
    if bool((importance < 0).any() | importance.isinf().any()):
        raise UsageError("budgets need importances that are at least 0 and finite")
    return importance.to(torch.float32)
