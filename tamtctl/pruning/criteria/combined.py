"""Combined orders, such as ``obs*fisher``: what several criteria agree on.

Criteria have units of their own, and their importances span orders of magnitude. So the logarithm
of each is standardised within a matrix, to mean 0 and standard deviation 1, and these are added:
every criterion has an equal say in the order, whatever its units.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.criteria.context import Context


def combined(orders: Sequence[Mapping[str, Tensor]], context: Context) -> dict[str, Tensor]:
    """Return name → importance by several criteria of every matrix that all of them reach.

    Args:
        orders: Of each criterion name → importance, at least 0.
        context: What the criteria looked at.

    Raises:
        UsageError: An importance has no logarithm, being negative, infinite or no number.
    """
    reached = functools.reduce(lambda names, order: names & order.keys(), orders, {*orders[0]})
    return {
        name: sum((_standardised_log(name, order[name]) for order in orders), torch.zeros(())).exp()
        for name in context.weights
        if name in reached
    }


def _standardised_log(name: str, importance: Tensor) -> Tensor:
    """Return the logarithm with mean 0 and standard deviation 1; zeros are as the smallest else."""
    values = importance.to("cpu", torch.float32)
    if not bool(((values >= 0) & values.isfinite()).all()):
        raise UsageError(
            f"a combined order takes logarithms, and an importance of {name} is negative, infinite "
            "or no number"
        )
    positive = values[values > 0]
    if not len(positive):
        return torch.zeros_like(values)
    log = values.clamp_min(positive.min()).log()
    spread = log.std(correction=0)
    return (log - log.mean()) / spread if spread > 0 else torch.zeros_like(log)
