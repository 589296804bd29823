"""RIA, relative importance and activations: Wanda with weights relative to their row and column.

(|w_ij| / Σ_k |w_ik| + |w_ij| / Σ_k |w_kj|) · ‖x_j‖₂^½ over the tokens of a calibration text: the
share of a weight in its row (output) and in its column (input), compared within a matrix (Zhang et
al., 2024, "Plug-and-Play", ICLR, §3.1 and §3.2, with their exponent ½). In a table of word
embeddings the frequency of a token takes the place of ‖x‖².

Relations: like `wanda`, but it lets no row and no column lose everything. It needs neither
gradients nor the Gram matrices of `obs`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → relative importance · ‖x‖^½ of every weight."""
    statistic = context.statistic("input-norms")
    return {name: _relative(w.abs()) * squares**0.25 for name, (w, squares) in statistic.items()}


def _relative(sizes: Tensor) -> Tensor:
    """Return each size's share of its row plus that of its column, shape (out, in); 0 / 0 is 0."""
    rows, columns = sizes.sum(1, keepdim=True), sizes.sum(0, keepdim=True)
    least = sizes.new_tensor(1e-30)  # avoids 0 / 0 in a row or column of zeros
    return sizes / rows.maximum(least) + sizes / columns.maximum(least)
