"""Wanda: |w| times the norm of the inputs that it weighs.

|w_ij| · ‖x_j‖₂ over the tokens of a calibration text, compared within an output row (Sun et al.,
2023, arXiv:2306.11695, §3, eq. 1). In a table of word embeddings the frequency of a token plays
‖x‖², and all of its weights are compared: its rows are tokens, and no outputs.

Relations: one forward pass, and no gradients. `obs` knows of inputs that stand in for each other,
`ria` keeps rows and columns alive, and `swaps` goes on from this mask.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.pruning.criteria.context import Context


def scores(context: Context) -> Mapping[str, Tensor]:
    """Return |w| · ‖x‖ of every weight."""
    statistic = context.statistic("input-norms")
    return {name: weight.abs() * squares.sqrt() for name, (weight, squares) in statistic.items()}
