"""Taylor: the squared first-order change of the loss when a weight is removed.

(w · g)² with the gradient g of a minibatch, of the masked-LM loss, averaged over the minibatches of
a calibration text (Molchanov et al., 2019, arXiv:1906.10771, §3.1, eq. 8, for single weights).

Relations: it stands between `snip`, which first adds up the gradients of all text, and `fisher`,
which squares the gradient of every single sequence and is mostly the best of the three.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → w² · E[g²] of every weight, the mean taken over minibatches."""
    statistic = context.statistic("squared-batch-gradients")
    return {name: weight.square() * squares for name, (weight, squares) in statistic.items()}
