"""Magnitude: a weight matters by its absolute value |w|.

The oldest criterion, and the hardest to beat without looking at any text (Han et al., 2015,
arXiv:1506.02626); the start of TAMT's mask training (Liu et al., 2022, §3.2).

Relations: the reference that a search has to beat. Take `random_scores` to see how much of a result
is due to the sparsity alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → |w| of every weight."""
    return {name: weight.abs() for name, weight in context.weights.items()}
