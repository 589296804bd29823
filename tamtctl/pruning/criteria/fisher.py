"""Fisher: w² times the mean square of the loss's gradient.

The second-order estimate of the rise of the masked-LM loss when a weight is removed, with the
diagonal of the Fisher information in place of the Hessian (Theis et al., 2018, arXiv:1801.05787,
§3.1, eq. 8). It is the empirical Fisher information: one gradient per sequence, with the labels of
the text (Singh & Alistarh, 2020, arXiv:2004.14340, §2).

Relations: it estimates the loss itself, and so ranks weights of all matrices in one unit. `obs`
sees one layer, and is the safer order within it; `fisher-kd` needs no masked-LM head.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → w² · E[g²] of every weight."""
    statistic = context.statistic("squared-gradients")
    return {name: weight.square() * squares for name, (weight, squares) in statistic.items()}
