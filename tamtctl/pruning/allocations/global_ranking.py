"""Global: one threshold on the importance of all weights, in whichever matrix they are.

Global pruning, as of networks at initialisation (Lee et al., 2019, arXiv:1810.02340). The number
of weights that all matrices keep together is exact: what is missing at a threshold that several
weights share is taken from the first matrices. A floor saves a matrix from vanishing (Tanaka et
al., 2020, arXiv:2006.05467, call that layer collapse).

Relations: compares importances across matrices, so that it needs a criterion of one unit in all of
them. `by_type` leaves the embeddings out, which it prunes most.
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

_SAMPLE = 2**20  # weights at most whose order says where to look for a threshold
_MARGIN = 0.02  # share of a sample to either side


def keep(request: Request) -> Mapping[str, int]:
    """Return the counts of one threshold for all matrices that have importances."""
    return share_out(request.importance, request)


def share_out(importance: Mapping[str, Tensor], request: Request) -> dict[str, int]:
    """Return name → how many weights a matrix keeps, if all of these share one threshold.

    Args:
        importance: Name → importance of every weight, of the matrices that share.
        request: Their sparsity and their floor.

    Raises:
        UsageError: The floor keeps more than the sparsity does.
    """
    if not importance:
        return {}
    total = sum(one.numel() for one in importance.values())
    wanted = keep_count(total, request.sparsity)
    # A share of 1 - floor is pruned at most; a matrix keeps a weight at least.
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
    """Return the largest number that at least so many weights reach, those of the floors counted.

    The bits of a float of 32 bits that is at least 0, read as an integer, are in the order of the
    floats: to halve them 31 times is exact, and sorts nothing. A sample says between which floats
    to look, so that the few weights between them are counted each time, and not all.
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
    """Return two numbers between which the threshold probably is, from a sample of the weights."""
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
    """Return importances as floats of 32 bits, whose thresholds are found.

    Raises:
        UsageError: One of them is negative or infinite.
    """
    if bool((importance < 0).any() | importance.isinf().any()):
        raise UsageError("budgets need importances that are at least 0 and finite")
    return importance.to(torch.float32)
