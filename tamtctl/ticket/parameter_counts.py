"""Numbers of parameters of a model, dense and pruned, which a ticket of a pattern records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from tamtctl.models.structures import Shapes, feed_forwards, is_in_layer
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.format.patterns import is_sliced

if TYPE_CHECKING:
    from torch import nn

_TOLD = "parameters"  # key among the metrics of a ticket
_MOST = 2**48


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters of an encoder without a head, with all biases and embeddings.

    Attributes:
        total: All parameters.
        layers: Parameters in its layers; the others are embeddings.
        kept: Parameters that no mask prunes.
        exported: Parameters in the checkpoint that `tamtctl.export` writes.
    """

    total: int
    layers: int
    kept: int
    exported: int

    @classmethod
    def of(cls, base: nn.Module, shapes: Shapes, keep: Mapping[str, int], pattern: str) -> Self:
        """Count the parameters of an encoder.

        Args:
            base: The dense encoder.
            shapes: Name → shape of every masked matrix.
            keep: Name → number of weights that are kept.
            pattern: The sparsity pattern of the masks.
        """
        sizes = {name: parameter.numel() for name, parameter in base.named_parameters()}
        total = sum(sizes.values())
        pruned = {name: sizes[name] - keep[name] for name in shapes}
        gone = 0
        if is_sliced(pattern):
            gone = sum(pruned.values())
            for network in feed_forwards(shapes).values():
                share = pruned[network.second] / sizes[network.second]
                biases = (name.removesuffix("weight") + "bias" for name in network.firsts)
                gone += sum(round(sizes.get(bias, 0) * share) for bias in biases)
        layers = sum(n for name, n in sizes.items() if is_in_layer(name))
        return cls(total, layers, total - sum(pruned.values()), total - gone)

    @classmethod
    def told_by(cls, ticket: TicketMetadata) -> Self | None:
        """Return the numbers that a ticket records; None if it has none, or impossible ones."""
        told = ticket.metrics.get(_TOLD)
        if not isinstance(told, dict):
            return None
        values: dict[str, Any] = {one.name: told.get(one.name) for one in fields(cls)}
        if not all(type(value) is int and 0 < value <= _MOST for value in values.values()):
            return None
        return cls(**values)

    def to_metrics(self) -> dict[str, Any]:
        """Return the entry for the metrics of a ticket."""
        return {_TOLD: asdict(self)}

    def __str__(self) -> str:
        """Return the numbers in a line."""
        smaller = 1 - self.exported / self.total
        then = f", {smaller:.0%} fewer" if self.exported < self.total else ", as many"
        return (
            f"{self.total:,} parameters, {self.layers:,} of them in layers; {self.kept:,} are not "
            f"pruned, and an export has {self.exported:,}{then}"
        )
