"""How many votes of several tickets keep a weight: union, intersection or majority.

Imports nothing heavy, so that the command line can make an option of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """How many votes a weight needs to be kept.

    Attributes:
        name: Its name on the command line.
        summary: Which weights it keeps.
        least_votes: Number of tickets → how many of them must keep a weight.
    """

    name: str
    summary: str
    least_votes: Callable[[int], int]


OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("union", "what any ticket keeps", lambda tickets: 1),
        Operation("intersection", "what all tickets keep", lambda tickets: tickets),
        Operation("majority", "what more than half of them keep", lambda tickets: tickets // 2 + 1),
    )
}
MAJORITY = "majority"
