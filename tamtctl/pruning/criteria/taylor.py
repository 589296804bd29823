"""Taylor: the squared first-order change of the loss if a weight goes.

(w · g)² with the gradient g of a minibatch, averaged over the minibatches of a calibration text
(Molchanov et al., 2019, arXiv:1906.10771, §3.1, eq. 8, for single weights), of masked language
modelling.

Relations: between `snip`, which adds up gradients of all text first, and `fisher`, which squares
those of every single sequence, and mostly the better of the three.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return w² · E[g²] over minibatches of every weight."""
    statistic = context.statistic("squared-batch-gradients")
    return {name: weight.square() * squares for name, (weight, squares) in statistic.items()}
