"""Heads: whole attention heads are kept, at least one in each layer.

A head is its rows of the matrices that make queries, keys and values, with their biases, and its
columns of the attention's output matrix. Others pruned heads like this before (Michel et al., 2019,
arXiv:1905.10650; Voita et al., 2019, arXiv:1905.09418). Every layer keeps the same number of heads,
unless an allocation shares them out: then those of all layers compete with each other, since a head
of one layer is as large as one of another. Without its pruned heads a model is smaller and faster.

Relations: attention is a third of a layer's multiplications, so that `neurons` makes a model faster
at the same share. Configurations of transformers have one number of heads for all layers, and tie
it to the width, so that only an ONNX graph can have fewer.
"""

from __future__ import annotations

from tamtctl.models import attentions
from tamtctl.models.structures import Shapes, Structures


def structures(shapes: Shapes, count: int) -> Structures:
    """Return layer → where its heads lie in its matrices, of which it has ``count``."""
    return attentions.heads(shapes, count)
