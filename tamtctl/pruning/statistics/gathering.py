"""What a statistic sees of a calibration text, batch by batch, and what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """What a matrix was multiplied with in one use of it, at every token that is no padding.

    Attributes:
        values: Shape (N, in), float32; None for a table.
        tokens: What was looked up in a table, shape (N,), int64; None for a linear layer.
        times: How often these count: what does not depend on the sequence, such as the relative
            positions of DeBERTa, is an input of each sequence of the batch.
    """

    values: Tensor | None
    tokens: Tensor | None
    times: int = 1


class OfInputs(Protocol):
    """Adds up a statistic of the inputs."""

    def see(self, name: str, inputs: Inputs) -> None:
        """Be given the inputs of one use of a matrix in one batch."""

    def finish(self) -> dict[str, Tensor]:
        """Return name → statistic of every matrix that was seen; called once."""


class OfGradients(Protocol):
    """Adds up a statistic of the gradients of a loss by the weights."""

    def see(self, name: str, gradients: Tensor, tokens: Tensor | None) -> None:
        """Be given gradients of some sequences of a batch, each summed over all uses of a matrix.

        Args:
            name: The matrix.
            gradients: One of each sequence: for a linear layer, shape (sequences, out, in); for a
                table only the rows that are not zero, shape (rows, width).
            tokens: The row of the table that each belongs to, shape (rows,); None for a linear
                layer.
        """

    def end_batch(self) -> None:
        """Be told that the next gradients are of the next `BATCH` sequences."""

    def finish(self) -> dict[str, Tensor]:
        """Return name → statistic of every matrix that was seen; called once."""


# Sequences whose gradient is one of a minibatch, whatever number of them goes through at once.
BATCH = 16
