"""Fisher-KD: how much the hidden states change when a weight is removed.

w² times the mean square of the gradients of random projections of the normalised hidden states: the
`fisher` estimate (Theis et al., 2018, arXiv:1801.05787, §3.1) with the Gauss–Newton diagonal of the
distillation loss of TAMT-KD (Liu et al., 2022, §3.3) at the dense model, estimated by random signs
(Hutchinson's way, Dong et al., 2019, arXiv:1911.03852, §3.2, for a Hessian).

Relations: for models without a masked-LM head, and where hidden states are what counts. `fisher`
is better in the loss of masked language modelling.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → w² · E[g²] of every weight."""
    statistic = context.statistic("squared-state-gradients")
    return {name: weight.square() * squares for name, (weight, squares) in statistic.items()}
