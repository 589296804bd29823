"""Neurons: of every feed-forward network whole neurons are kept, in every layer as many.

A neuron is a row of the first matrix, with its bias, and a column of the second; where one half of
the first matrix gates the other, a row of each (pruned so by McCarley et al., 2019,
arXiv:1910.06360, and Xia et al., 2022, arXiv:2204.00408). Without the pruned ones a model has a
smaller intermediate size, and is in all else what it was.

Relations: costs the most at a sparsity, and is the one pattern that makes a model smaller and
faster everywhere, without a special kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tamtctl.models import structures as found
from tamtctl.models.structures import Shapes, Structures
from tamtctl.pruning.patterns import structured


def structures(shapes: Shapes) -> Structures:
    """Return the neurons of every layer."""
    return found.neurons(shapes)


def keep(shapes: Shapes, sparsity: float) -> dict[str, int]:
    """Return the weights of as many neurons of a layer as its sparsity says."""
    return structured.keep(found.neurons(shapes), sparsity)


def select(
    scores: Mapping[str, Tensor], keep: Mapping[str, int], among_equals: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return name → mask of the neurons with the largest scores."""
    shapes = {name: tuple(scores[name].shape) for name in keep}
    return structured.select(found.neurons(shapes), scores, keep, among_equals)
