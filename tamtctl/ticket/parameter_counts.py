"""Numbers of parameters of a model, dense and pruned, which a ticket of a pattern records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from tamtctl.models.structures import Shapes, Structures, is_in_layer
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.format.patterns import Claim

if TYPE_CHECKING:
    from torch import nn

_TOLD = "parameters"  # key among the metrics of a ticket
_GRAPH = "graph"  # a field that only some patterns have
_MOST = 2**48


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters of an encoder without a head, with all biases and embeddings.

    Attributes:
        total: All parameters.
        layers: Parameters in its layers; the others are embeddings.
        kept: Parameters that no mask prunes.
        exported: Parameters in the checkpoint that `tamtctl.export` writes.
        graph: Parameters in the ONNX graph that it writes; None: as many as in the checkpoint.
    """

    total: int
    layers: int
    kept: int
    exported: int
    graph: int | None = None

    @classmethod
    def of(
        cls,
        base: nn.Module,
        shapes: Shapes,
        keep: Mapping[str, int],
        pattern: str,
        random: Collection[str] = (),
    ) -> Self:
        """Count the parameters of an encoder.

        Args:
            base: The dense encoder.
            shapes: Name → shape of every masked matrix.
            keep: Name → number of weights that are kept.
            pattern: The sparsity pattern of the masks.
            random: Names of parameters that the checkpoint lacks, as those of a pooler.
        """
        named = base.named_parameters()
        sizes = {name: parameter.numel() for name, parameter in named if name not in random}
        total = sum(sizes.values())
        pruned = {name: sizes[name] - keep[name] for name in shapes}
        claim = Claim.read(pattern)
        structures = claim.structures(shapes) if claim else None
        gone = 0
        if claim and structures and (claim.form.is_sliced or claim.form.is_cut_from_graphs):
            gone = sum(pruned.values()) + _biases(structures, pruned, sizes)
        layers = sum(n for name, n in sizes.items() if is_in_layer(name))
        kept = total - sum(pruned.values())
        if claim and claim.form.is_cut_from_graphs:
            return cls(total, layers, kept, total, total - gone)
        return cls(total, layers, kept, total - gone)

    @classmethod
    def told_by(cls, ticket: TicketMetadata) -> Self | None:
        """Return the numbers that a ticket records; None if it has none, or impossible ones."""
        told = ticket.metrics.get(_TOLD)
        if not isinstance(told, dict):
            return None
        values: dict[str, Any] = {one.name: told.get(one.name) for one in fields(cls)}
        if values[_GRAPH] is None:
            del values[_GRAPH]
        if not all(type(value) is int and 0 < value <= _MOST for value in values.values()):
            return None
        return cls(**values)

    def to_dict(self) -> dict[str, int]:
        """Return plain JSON values."""
        return {name: number for name, number in asdict(self).items() if number is not None}

    def to_metrics(self) -> dict[str, Any]:
        """Return the entry for the metrics of a ticket."""
        return {_TOLD: self.to_dict()}

    def __str__(self) -> str:
        """Return the numbers in a line."""
        to_onnx = "" if self.graph is None else f", and one to ONNX {self._beside(self.graph)}"
        return (
            f"{self.total:,} parameters, {self.layers:,} of them in layers; {self.kept:,} are not "
            f"pruned, and an export has {self._beside(self.exported)}{to_onnx}"
        )

    def _beside(self, number: int) -> str:
        """Return a number, and how many fewer that is."""
        smaller = 1 - number / self.total
        return f"{number:,}" + (f", {smaller:.0%} fewer" if number < self.total else ", as many")


def _biases(structures: Structures, pruned: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """Return how many biases belong to pruned structures, as rows of their matrices do.

    Args:
        structures: Group → where its structures lie; those of the last matrix are columns.
        pruned: Name → number of weights that are pruned.
        sizes: Name → number of values of every parameter.
    """
    return sum(
        round(sizes.get(one.matrix.removesuffix("weight") + "bias", 0) * share)
        for group in structures.values()
        for one in group[:-1]
        if (share := pruned[one.matrix] / sizes[one.matrix])
    )
