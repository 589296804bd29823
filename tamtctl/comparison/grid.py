"""The cells of a sweep, each a method, sparsity and seed; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamtctl.pruning.methods import IMP, Method, known_method


@dataclass(frozen=True)
class OtherAllocation:
    """How many weights each matrix keeps, where a cell's allocation is not that of its sweep.

    Attributes:
        allocation: A name on the shelf of allocations.
        criterion: The criterion that decides what each matrix keeps; None if all have one sparsity.
        objective: The loss by which one of the two allocations is chosen.
    """

    allocation: str
    criterion: str | None
    objective: str

    def __str__(self) -> str:
        return self.allocation + (f" by {self.criterion}" if self.criterion else "")


@dataclass(frozen=True)
class Cell:
    """One subnetwork of a sweep.

    Attributes:
        method: A name that `tamtctl.pruning.methods.known_method` knows.
        sparsity: Its sparsity.
        seed: The seed of its search or random mask; None where the method has none.
        allocation: Its allocation, if not that of the sweep.
    """

    method: str
    sparsity: float
    seed: int | None
    allocation: OtherAllocation | None = None

    @property
    def facts(self) -> Method:
        """Its method with what is known of it."""
        method = known_method(self.method)
        assert method is not None, self.method  # `CompareConfig` checks it
        return method

    @property
    def is_trained(self) -> bool:
        """Whether its mask is trained, and not found in one shot."""
        return self.facts.is_trained

    @property
    def objective(self) -> str | None:
        """The objective that its mask is trained for; None without training."""
        return self.facts.objective if self.is_trained else None

    def __str__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        allocation = "" if self.allocation is None else f", {self.allocation}"
        return f"{self.method} at {self.sparsity:g}{seed}{allocation}"


@dataclass(frozen=True)
class TimedBudget:
    """A budget of mask training in seconds, and the steps that fit in it."""

    seconds: float
    steps: int


def units_of_work(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Group cells so that groups can run apart, and the cells of each in order.

    Iterative magnitude pruning passes every smaller sparsity on its way to a larger one, so its
    cells of one seed are one group.
    """
    chains: dict[object, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.sparsity):
        key = (cell.method, cell.seed) if cell.method == IMP else cell
        chains.setdefault(key, []).append(cell)
    return [tuple(chain) for chain in chains.values()]
