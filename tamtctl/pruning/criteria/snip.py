"""SNIP: the first-order change of the loss when a weight is switched off.

|w · g| with the gradient g of the masked-LM loss on the whole calibration text (Lee et al., 2019,
arXiv:1810.02340, §4.1, eq. 5); here of a pre-trained model, and compared within each matrix.

Relations: gains and losses of different sequences cancel, so that near a minimum it is mostly
noise. `taylor` and `fisher` square the gradients before they add them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → |w · g| of every weight."""
    statistic = context.statistic("gradient-sums")
    return {name: (weight * sums).abs() for name, (weight, sums) in statistic.items()}
