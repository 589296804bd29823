"""Swaps: Wanda's mask, improved by exchanges within each row of a matrix.

A kept and a pruned weight of the same row change places: the best weight to restore, and then the
best to prune for it. The change of the squared error of a layer's output ‖(W ⊙ m − W)X‖² is known
exactly from the Gram matrix XXᵀ, and a row ends when this one pair no longer lowers it; other pairs
still might (SparseSwaps, Zimmer et al., 2025, arXiv:2512.10922, §2; DSnoT, Zhang et al., 2023,
arXiv:2310.08915, §3, exchanges by an estimate). The start is Wanda's order over the whole matrix
(Sun et al., 2023, arXiv:2306.11695). A table of embeddings keeps Wanda's mask, for its inputs are
single tokens, which do not interact.

The result is returned as importances: with τ between Wanda's kept and pruned importances, a weight
of importance c that changes sides gets τ² / c, which is as far on the other side of τ.

Relations: it leaves a smaller error of a layer than `wanda` and `obs`, and is slower. It needs to
know how many weights each matrix keeps, and so cannot set budgets itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.selection import keep_largest
from tamtctl.foundations.working import counted
from tamtctl.pruning.criteria.context import Context

_MOST = 100  # exchanges in each row; after these little is left to gain


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → importance of every weight, of which the largest are the improved mask."""
    if context.keep is None:
        raise UsageError(
            "criterion 'swaps' improves a mask: it cannot say how many weights a matrix keeps"
        )
    found = {}
    statistic = context.statistic("gram-matrices")
    for name, (weight, gram) in counted(statistic.items(), "exchanging in matrix", len(statistic)):
        is_table = gram.shape[1] == 1 != weight.shape[1]  # the diagonal alone
        squares = gram if is_table else gram.diagonal().unsqueeze(0)
        found[name] = weight.abs() * squares.sqrt()
        if not is_table and weight.any() and 0 < context.keep[name] < weight.numel():
            found[name] = _exchanged(weight, gram, found[name], context.keep[name])
    return found


def _exchanged(weight: Tensor, gram: Tensor, wanda: Tensor, keep: int) -> Tensor:
    """Return Wanda's importances, those of exchanged weights mirrored at τ.

    Args:
        weight: Shape (out, in).
        gram: XXᵀ, shape (in, in).
        wanda: Wanda's importances, shape (out, in).
        keep: How many weights are kept.
    """
    before = keep_largest(wanda, keep, weight.abs())
    after = exchanges(weight, gram, before)
    middle = (wanda[before].min() * wanda[~before].max()).sqrt()  # τ
    least = wanda[wanda > 0].min()
    return torch.where(before == after, wanda, middle.square() / wanda.maximum(least))


def exchanges(weight: Tensor, gram: Tensor, mask: Tensor, most: int = _MOST) -> Tensor:
    """Return the mask after those exchanges within rows that lower the output's squared error.

    With the removed weights d = w ⊙ (1 − m) of a row, its error is dᵀGd. To restore weight i and
    prune j changes it by w_i² G_ii − 2 w_i (Gd)_i + w_j² G_jj + 2 w_j (Gd)_j − 2 w_i w_j G_ij.

    Args:
        weight: Shape (out, in).
        gram: G = XXᵀ, shape (in, in).
        mask: True where a weight is kept, shape (out, in).
        most: Most exchanges in one row.
    """
    mask = mask.clone()
    open_rows = torch.arange(len(weight), device=weight.device)
    pull = (weight * ~mask) @ gram  # (Gd) of every row, shape (out, in)
    own = weight.square() * gram.diagonal()
    for _ in range(most):
        w, m, q = weight[open_rows], mask[open_rows], pull[open_rows]  # (rows, in)
        restored = torch.where(m, torch.inf, own[open_rows] - 2 * w * q)
        gain, i = restored.min(1, keepdim=True)  # (rows, 1)
        w_i, column = w.gather(1, i), gram[i.squeeze(1)]  # (rows, 1), (rows, in)
        pruned = torch.where(m, own[open_rows] + 2 * w * (q - w_i * column), torch.inf)
        loss, j = pruned.min(1, keepdim=True)
        error = (w * ~m * q).sum(1, keepdim=True)  # error of each row
        improves = (gain + loss < -1e-6 * error).squeeze(1)
        open_rows, i, j = open_rows[improves], i[improves], j[improves]
        if not len(open_rows):
            break
        change = weight[open_rows].gather(1, j) * gram[j.squeeze(1)]
        pull[open_rows] += change - w_i[improves] * column[improves]
        mask[open_rows.unsqueeze(1), i] = True
        mask[open_rows.unsqueeze(1), j] = False
    return mask
