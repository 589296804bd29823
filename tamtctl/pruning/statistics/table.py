"""The shelf of statistics: what is gathered of every matrix while a calibration text is read.

A criterion names those that it needs, and one pass over the text gathers them for all criteria.
Imports nothing heavy. To add one: a file beside this one, and a row in `STATISTICS`; from another
package or a script the same by `register`. The file defines

    gatherer(shapes, device) -> InputGatherer | GradientGatherer    adds it up, see `gathering`
    cost(shape, is_table) -> int                          bytes that the gatherer takes for a matrix
    loss(output, batch, number) -> Tensor                 for gradients only, see `losses`

Examples: `input_norms`, and `squared_gradients` of gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamtctl.foundations.shelves import Row, Shelf

if TYPE_CHECKING:
    import torch

    from tamtctl.pruning.statistics.gathering import GradientGatherer, InputGatherer


@dataclass(frozen=True, kw_only=True)
class Statistic(Row):
    """A statistic, and facts about it for other code.

    Attributes:
        is_of_gradients: Whether it takes gradients, from a backward pass; else it takes inputs.
        needs_head: Whether its loss needs the logits of the masked-LM head.
        needs_noise: Whether its loss needs text with masked tokens.
        version: Raise it whenever the same text would give other values.
    """

    is_of_gradients: bool = False
    needs_head: bool = False
    needs_noise: bool = False
    version: int = 1

    def gatherer(
        self, shapes: Mapping[str, tuple[int, ...]], device: torch.device
    ) -> InputGatherer | GradientGatherer:
        """Return the gatherer that adds the statistic up.

        Args:
            shapes: Name → shape of every matrix that the statistic is wanted for.
            device: The device to add up on.
        """
        return self.function("gatherer")(shapes, device)  # type: ignore[no-any-return]

    def cost(self, shape: tuple[int, ...], *, is_table: bool) -> int:
        """Return how many bytes it takes for a matrix while it is gathered."""
        return int(self.function("cost")(shape, is_table))

    @property
    def loss(self) -> Callable[..., torch.Tensor]:
        """The loss whose gradients it takes."""
        return self.function("loss")


_HERE = "tamtctl.pruning.statistics"
STATISTICS: Shelf[Statistic] = Shelf(
    "statistic",
    [
        Statistic(name="input-norms", code=f"{_HERE}.input_norms"),
        Statistic(name="gram-matrices", code=f"{_HERE}.gram_matrices"),
        Statistic(name="curvatures", code=f"{_HERE}.curvatures"),
        Statistic(
            name="gradient-sums",
            code=f"{_HERE}.gradient_sums",
            is_of_gradients=True,
            needs_head=True,
            needs_noise=True,
        ),
        Statistic(
            name="squared-gradients",
            code=f"{_HERE}.squared_gradients",
            is_of_gradients=True,
            needs_head=True,
            needs_noise=True,
        ),
        Statistic(
            name="squared-batch-gradients",
            code=f"{_HERE}.squared_batch_gradients",
            is_of_gradients=True,
            needs_head=True,
            needs_noise=True,
        ),
        Statistic(
            name="squared-state-gradients",
            code=f"{_HERE}.squared_state_gradients",
            is_of_gradients=True,
            version=2,  # on a GPU the signs were others than on a CPU
        ),
    ],
)
register = STATISTICS.register
