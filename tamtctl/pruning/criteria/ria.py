"""RIA: relative importance and activations, Wanda with an eye on rows and columns.

(|w_ij| / Σ_k |w_ik| + |w_ij| / Σ_k |w_kj|) · ‖x_j‖₂^½ over the tokens of a calibration text: what a
weight is among those of its output and among those of its input, compared within a matrix (Zhang et
al., 2024, "Plug-and-Play", ICLR, §3.1 and §3.2, with their exponent ½). In a table of word
embeddings the frequency of a token plays ‖x‖².

Relations: like `wanda`, but it lets no row and no column lose everything. No gradients, and no Gram
matrices as `obs` has.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return relative importance · ‖x‖^½ of every weight."""
    statistic = context.statistic("input-norms")
    return {name: _relative(w.abs()) * squares**0.25 for name, (w, squares) in statistic.items()}


def _relative(sizes: Tensor) -> Tensor:
    """Return each share of its row plus that of its column, shape (out, in); 0 of nothing is 0."""
    rows, columns = sizes.sum(1, keepdim=True), sizes.sum(0, keepdim=True)
    least = sizes.new_tensor(1e-30)  # a sum below it is of zeros
    return sizes / rows.maximum(least) + sizes / columns.maximum(least)
