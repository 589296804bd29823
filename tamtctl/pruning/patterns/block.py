"""Blocks: every matrix of a linear layer is cut into blocks of R × C weights, kept or pruned whole.

Block pruning of transformers (Lagunas et al., 2021, arXiv:2109.04838, §3). Kernels for block-sparse
matrices skip pruned blocks (Gray et al., 2017, "GPU kernels for block-sparse weights").

Relations: the larger the blocks, the faster a kernel can be, and the more a mask costs; with
`neurons` no special kernel is needed.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.models.structures import Shapes, Structures, blocks
from tamtctl.pruning.patterns import structured


def structures(shapes: Shapes, rows: int, columns: int) -> Structures:
    """Return group → blocks of ``rows`` × ``columns`` weights, one group for each matrix."""
    return blocks(shapes, rows, columns)


def keep(shapes: Shapes, sparsity: float, rows: int, columns: int) -> dict[str, int]:
    """Return name → how many weights a matrix keeps, in whole blocks."""
    return structured.keep(blocks(shapes, rows, columns), sparsity)


def select(
    scores: Mapping[str, Tensor],
    keep: Mapping[str, int],
    among_equals: Mapping[str, Tensor],
    rows: int,
    columns: int,
) -> dict[str, Tensor]:
    """Return name → mask of the blocks with the largest scores."""
    shapes = {name: tuple(scores[name].shape) for name in keep}
    return structured.select(blocks(shapes, rows, columns), scores, keep, among_equals)
