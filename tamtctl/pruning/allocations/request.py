"""What an allocation may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Request:
    """The sparsity, and how much each weight matters.

    Attributes:
        sparsity: Share of zeros in all matrices together.
        sizes: Name → how many weights each matrix has.
        even: Name → how many weights each matrix keeps if all have that sparsity.
        importance: Name → importance of every weight, at least 0 and of one unit in all matrices,
            of those that the budgets' criterion reaches. Empty for an allocation that is uniform.
        embeddings: The matrices that words are looked up in.
        floor: Share of its weights that every matrix keeps at least.
    """

    sparsity: float
    sizes: Mapping[str, int]
    even: Mapping[str, int]
    importance: Mapping[str, Tensor]
    embeddings: frozenset[str]
    floor: float
