"""The shelf of allocations: how many weights each matrix keeps at a sparsity of the whole model.

An allocation goes with every criterion and every training: a matrix keeps as many weights from the
first step to the last. Imports nothing heavy. To add one: a file beside this one, and a row in
`ALLOCATIONS`; from another package or a script the same by `register`. The file defines

    keep(request: Request) -> Mapping[str, int]         name → how many weights the matrix keeps

see `tamtctl.pruning.allocations.request`. A matrix that ``keep`` leaves out keeps as many weights
as `Request.even` says. `uniform` is the shortest example.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Row, Shelf

if TYPE_CHECKING:
    from tamtctl.pruning.allocations.request import Request


@dataclass(frozen=True, kw_only=True)
class Allocation(Row):
    """An allocation: how many weights each matrix keeps, and facts about it for other code.

    Attributes:
        is_uniform: Whether every matrix has the same sparsity, so that no criterion is asked for
            budgets.
        version: Raise it whenever the same request would give other counts: results of an older
            version are then not reused.
    """

    is_uniform: bool = False
    version: int = 1

    def keep(self, request: Request) -> dict[str, int]:
        """Return name → how many weights each matrix keeps, for every matrix of the request.

        Raises:
            UsageError: The sparsity cannot be reached, or the allocation's code returns an unknown
                matrix, a count that the matrix does not have, or counts of another sparsity.
        """
        counts = {**request.even, **self._found(request)}
        kept, wanted = sum(counts.values()), sum(request.even.values())
        if abs(kept - wanted) > len(counts):  # each matrix rounds its count
            raise UsageError(
                f"allocation {self.name!r} keeps {kept:,} weights in all, and --sparsity "
                f"{request.sparsity:g} {wanted:,}"
            )
        return counts

    def _found(self, request: Request) -> dict[str, int]:
        """Return what the allocation's code says, checked matrix by matrix."""
        found: object = self.function("keep")(request)
        if not isinstance(found, Mapping):
            raise UsageError(f"allocation {self.name!r} gives {found!r}, not name → count")
        counts = {}
        for name, count in found.items():
            try:
                counts[name] = int(operator.index(count))
            except TypeError:
                raise UsageError(
                    f"allocation {self.name!r} gives {name} {count!r} weights; give a whole number"
                ) from None
            if not 0 <= counts[name] <= request.sizes.get(name, -1):
                raise UsageError(f"allocation {self.name!r} gives {name} {count} weights")
        return counts


ALLOCATIONS: Shelf[Allocation] = Shelf(
    "allocation",
    [
        Allocation(
            name="uniform",
            code="tamtctl.pruning.allocations.uniform",
            is_uniform=True,
        ),
        Allocation(name="global", code="tamtctl.pruning.allocations.global_ranking"),
        Allocation(name="by-type", code="tamtctl.pruning.allocations.by_type"),
    ],
)
register = ALLOCATIONS.register

# How weights are shared out unless another allocation is asked for: the paper's.
UNIFORM = "uniform"
