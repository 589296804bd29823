"""Blocks: every matrix of a linear layer is cut into blocks of R × C weights, kept or pruned whole.

Block pruning of transformers (Lagunas et al., 2021, arXiv:2109.04838, §3). Kernels for block-sparse
matrices skip pruned blocks (Gray et al., 2017, "GPU kernels for block-sparse weights").

Relations: the larger the blocks, the faster a kernel can be, and the more a mask costs; with
`neurons` no special kernel is needed.
"""

from __future__ import annotations

from tamtctl.models.structures import Shapes, Structures, blocks


def structures(shapes: Shapes, rows: int, columns: int) -> Structures:
    """Return group → blocks of ``rows`` × ``columns`` weights, one group for each matrix."""
    return blocks(shapes, rows, columns)
