"""What an allocation may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Request:
    """The sparsity, and how much each weight matters.

    Attributes:
        sparsity: Share of zeros in all matrices together, in [0, 1).
        sizes: Name → how many weights each matrix has.
        even: Name → how many weights each matrix keeps if every matrix has that sparsity.
        importance: Name → importance of every weight, for the matrices that the budgets' criterion
            reaches; at least 0, and in the same unit in all of them. Empty for a uniform
            allocation.
        embeddings: Names of the word-embedding matrices.
        floor: Least share of its weights that every matrix keeps.
    """

    sparsity: float
    sizes: Mapping[str, int]
    even: Mapping[str, int]
    importance: Mapping[str, Tensor]
    embeddings: frozenset[str]
    floor: float
