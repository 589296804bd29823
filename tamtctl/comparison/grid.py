"""What a sweep consists of: cells of method, sparsity and seed; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamtctl.pruning.methods import IMP, Method, known_method


@dataclass(frozen=True)
class Budgets:
    """How many weights each matrix keeps, where a cell has other budgets than its sweep.

    Attributes:
        allocation: A name on the shelf of allocations.
        criterion: What says which matrix keeps how much; None if all have one sparsity.
        objective: The loss by which budgets are chosen.
    """

    allocation: str
    criterion: str | None
    objective: str

    def __str__(self) -> str:
        return f"{self.allocation} budgets" + (f" by {self.criterion}" if self.criterion else "")


@dataclass(frozen=True)
class Cell:
    """One subnetwork of a sweep.

    Attributes:
        method: A name that `tamtctl.pruning.methods.known_method` knows.
        sparsity: Its sparsity.
        seed: None where the method has none.
        budgets: How its zeros are shared out, if not as those of the whole sweep.
    """

    method: str
    sparsity: float
    seed: int | None
    budgets: Budgets | None = None

    @property
    def facts(self) -> Method:
        """What is known of its method."""
        method = known_method(self.method)
        assert method is not None, self.method  # `CompareConfig` sees to it
        return method

    @property
    def is_trained(self) -> bool:
        """Whether it takes a search, and is no one-shot mask."""
        return self.facts.is_trained

    @property
    def objective(self) -> str | None:
        """What its mask is trained for."""
        return self.facts.objective if self.is_trained else None

    def __str__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        budgets = "" if self.budgets is None else f", {self.budgets}"
        return f"{self.method} at {self.sparsity:g}{seed}{budgets}"


@dataclass(frozen=True)
class TimedBudget:
    """What mask training gets: so many seconds, in which about so many steps are done."""

    seconds: float
    steps: int


def units_of_work(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Group cells into what can run apart, each of it in order.

    Iterative magnitude pruning passes every smaller sparsity on its way to a larger one: the cells
    of one seed are one run.
    """
    chains: dict[object, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.sparsity):
        key = (cell.method, cell.seed) if cell.method == IMP else cell
        chains.setdefault(key, []).append(cell)
    return [tuple(chain) for chain in chains.values()]
