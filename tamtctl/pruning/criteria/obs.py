"""OBS: how much the squared error of a layer's output rises when a weight is removed.

w_ij² / [(XXᵀ + λI)⁻¹]_jj with the inputs X of a calibration text: the saliency of Optimal Brain
Surgeon (Hassibi & Stork, 1993, eq. 5), layer by layer as in SparseGPT (Frantar et al., 2023,
arXiv:2301.00774, §3.1 and Appendix A). Only the ranking is taken over: no other weight is adjusted,
for a ticket keeps the pre-trained weights, and all weights of a matrix are ranked at once. In a
table of word embeddings the frequency of a token takes the place of the curvature.

Relations: like `wanda`, but an input that other inputs can replace counts less. `fisher` adds what
a layer's error means for the loss, and the two combine well.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → w² times the curvature, for every weight."""
    statistic = context.statistic("curvatures")
    return {name: weight.square() * curvature for name, (weight, curvature) in statistic.items()}
