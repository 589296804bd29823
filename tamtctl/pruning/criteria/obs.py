"""OBS: what the squared error of a layer's output rises by if a weight goes.

w_ij² / [(XXᵀ + λI)⁻¹]_jj with the inputs X of a calibration text: the saliency of Optimal Brain
Surgeon (Hassibi & Stork, 1993, eq. 5), layer by layer as in SparseGPT (Frantar et al., 2023,
arXiv:2301.00774, §3.1 and Appendix A). The mask alone is theirs: no weight is adapted, for a ticket
keeps the pre-trained weights, and all weights of a matrix are ranked at once. In a table of word
embeddings the frequency of a token plays its curvature.

Relations: like `wanda`, but an input that others can stand in for counts less. `fisher` knows what
the loss makes of a layer's error, and the two combine well.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return w² times the curvature of every weight."""
    statistic = context.statistic("curvatures")
    return {name: weight.square() * curvature for name, (weight, curvature) in statistic.items()}
