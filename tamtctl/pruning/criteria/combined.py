"""Combined orders, such as ``obs*fisher``: what several criteria agree on.

Criteria have units of their own, and their importances span orders of magnitude. So the logarithm
of each is standardised within a matrix, to mean 0 and standard deviation 1, and these are added:
every criterion has an equal say in the order, whatever its units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.criteria.table import Criterion


def combined(parts: Sequence[Criterion], context: Context) -> dict[str, Tensor]:
    """Return name → combined importance of every weight, for the matrices that all criteria reach.

    The criteria run one after the other, and the importances of one are freed before the next
    begins: those of one criterion take as much memory as the weights.

    Args:
        parts: The criteria.
        context: What the criteria may use.

    Raises:
        UsageError: An importance is negative, infinite or not a number, and so has no logarithm.
    """
    total: dict[str, Tensor] = {}
    for number, row in enumerate(parts):
        found = dict(row.scores(context))
        reached = [name for name in found if number == 0 or name in total]
        before, total = total, {}
        for name in reached:
            log = _standardised_log(name, found.pop(name))
            total[name] = log if number == 0 else before.pop(name).add_(log)
    return {name: total[name].exp_() for name in context.weights if name in total}


def _standardised_log(name: str, importance: Tensor) -> Tensor:
    """Return the logarithm, standardised; a zero counts as the smallest positive value."""
    values = importance.to("cpu", torch.float32)
    if not bool(((values >= 0) & values.isfinite()).all()):
        raise UsageError(
            f"a combined order takes logarithms, and an importance of {name} is negative, infinite "
            "or no number"
        )
    smallest = values.masked_fill(values == 0, torch.inf).min()
    if not bool(smallest.isfinite()):  # all are zero
        return torch.zeros_like(values)
    log = values.clamp_min(smallest).log_()
    spread = log.std(correction=0)
    return log.sub_(log.mean()).div_(spread) if spread > 0 else torch.zeros_like(log)
