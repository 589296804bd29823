"""SNIP: the size of the loss's derivative by switching a weight off.

|w · g| with the gradient g of the loss of the whole calibration text (Lee et al., 2019,
arXiv:1810.02340, §4.1, eq. 5), of masked language modelling, here of a pre-trained model and within
each matrix.

Relations: the first-order effect, in which gains and losses of different sequences cancel; near a
minimum it is noise. `taylor` and `fisher` square the gradients before they add them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return |w · g| of every weight."""
    statistic = context.statistic("gradient-sums")
    return {name: (weight * sums).abs() for name, (weight, sums) in statistic.items()}
