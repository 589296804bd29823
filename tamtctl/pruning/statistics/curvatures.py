"""Curvatures: 1 / [(XᵀX + λI)⁻¹]_jj of every input j of a linear layer.

Times w², it is the rise of the squared error of a layer's output when a weight w at input j is
removed and all others of its row are adapted as well as possible (Optimal Brain Surgeon, Hassibi &
Stork, 1993, eq. 5). The damping λ is 1 % of the mean of XᵀX's diagonal (SparseGPT, Frantar &
Alistarh, 2023, arXiv:2301.00774, Appendix A). The shapes are those of `input_norms`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.foundations.working import counted
from tamtctl.pruning.statistics.gram_matrices import Products
from tamtctl.pruning.statistics.gram_matrices import cost as cost
from tamtctl.pruning.statistics.input_norms import smoothed

DAMPING = 0.01  # of the mean of the diagonal


def gatherer(shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> _Curvatures:
    """Return a gatherer that adds up Gram matrices, and inverts them in the end."""
    return _Curvatures(shapes, device)


class _Curvatures(Products):
    def finish(self) -> dict[str, Tensor]:
        """Return name → curvature; each Gram matrix is freed once it is inverted."""
        names = counted(list(self.grams), "inverting Gram matrix", len(self.grams))
        found = {name: curvature(self.grams.pop(name)) for name in names}
        return found | {name: smoothed(counts) for name, counts in self.counts.items()}


def curvature(gram: Tensor) -> Tensor:
    """Return 1 / [(G + λI)⁻¹]_jj, shape (1, in), for a Gram matrix G, which is overwritten.

    With L the Cholesky factor, the diagonal of the inverse is that of L⁻ᵀ L⁻¹: the sums of the
    squares of L⁻¹'s columns. Where all inputs are 0, so is the curvature.
    """
    damping = DAMPING * gram.diagonal().mean()
    if not 0 < damping < torch.inf:  # there were no inputs, or the model overflows
        return gram.diagonal().clone().unsqueeze(0)
    gram.diagonal().add_(damping)
    lower = torch.linalg.cholesky(gram)
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity, upper=False)
    return inverse.square().sum(0).reciprocal().unsqueeze(0)
