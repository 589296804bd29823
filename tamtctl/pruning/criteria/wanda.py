"""Wanda: |w| times the norm of the weight's input.

|w_ij| · ‖x_j‖₂ over the tokens of a calibration text, compared within an output row (Sun et al.,
2023, arXiv:2306.11695, §3, eq. 1). In a table of word embeddings the frequency of a token takes the
place of ‖x‖², and all weights are compared with each other: its rows are tokens, not outputs.

Relations: it takes one forward pass and no gradients. `obs` also knows which inputs can replace
each other, `ria` keeps rows and columns alive, and `swaps` improves this mask.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return name → |w| · ‖x‖ of every weight."""
    statistic = context.statistic("input-norms")
    return {name: weight.abs() * squares.sqrt() for name, (weight, squares) in statistic.items()}
