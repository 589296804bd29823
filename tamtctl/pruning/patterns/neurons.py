"""Neurons: whole neurons of feed-forward networks are kept, the same number in every layer.

A neuron is a row of the first matrix, with its bias, and a column of the second. Where one half of
the first matrix gates the other, it is a row of each half. Others pruned neurons like this
before (McCarley et al., 2019, arXiv:1910.06360; Xia et al., 2022, arXiv:2204.00408). Without its
pruned neurons a model has a smaller intermediate size, and is otherwise unchanged.

Relations: it costs the most quality at the same sparsity, and is the only pattern that makes a
model smaller and faster everywhere, without a special kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.models import structures as found
from tamtctl.models.structures import Shapes, Structures
from tamtctl.pruning.patterns import structured


def structures(shapes: Shapes) -> Structures:
    """Return layer → where its neurons lie in its matrices."""
    return found.neurons(shapes)


def keep(shapes: Shapes, sparsity: float) -> dict[str, int]:
    """Return name → how many weights a matrix keeps, in whole neurons."""
    return structured.keep(found.neurons(shapes), sparsity)


def select(
    scores: Mapping[str, Tensor], keep: Mapping[str, int], among_equals: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return name → mask of the neurons with the largest scores."""
    shapes = {name: tuple(scores[name].shape) for name in keep}
    return structured.select(found.neurons(shapes), scores, keep, among_equals)
