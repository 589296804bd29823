"""Gatherers: they take in inputs or gradients batch by batch, and return a statistic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """The inputs of a matrix in one use of it, at every token that is not padding.

    Attributes:
        values: Inputs of a linear layer, shape (N, in), float32; None for a table.
        tokens: Tokens looked up in a table, shape (N,), int64; None for a linear layer.
        times: How often they count. Inputs that are the same for every sequence, such as DeBERTa's
            relative positions, count once for each sequence of the batch.
    """

    values: Tensor | None
    tokens: Tensor | None
    times: int = 1


class InputGatherer(Protocol):
    """Adds up a statistic of the inputs."""

    def see(self, name: str, inputs: Inputs) -> None:
        """Take in the inputs of one use of a matrix in one batch."""

    def finish(self) -> dict[str, Tensor]:
        """Return name → statistic of every matrix that was seen; called once."""


class GradientGatherer(Protocol):
    """Adds up a statistic of the gradients of a loss with respect to the weights."""

    def see(self, name: str, gradients: Tensor, tokens: Tensor | None) -> None:
        """Take in gradients of some sequences of a batch, each summed over all uses of a matrix.

        Args:
            name: The matrix.
            gradients: One gradient for each sequence: for a linear layer, shape (sequences, out,
                in); for a table only the rows that are not zero, shape (rows, width).
            tokens: For each of these rows its index in the table, shape (rows,); None for a linear
                layer.
        """

    def end_batch(self) -> None:
        """Note that a minibatch of `BATCH` sequences ends here."""

    def finish(self) -> dict[str, Tensor]:
        """Return name → statistic of every matrix that was seen; called once."""


# Sequences of a minibatch, however many of them go through the model at once.
BATCH = 16
