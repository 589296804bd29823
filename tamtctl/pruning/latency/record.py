"""The record of a search by latency: how many neurons or heads are kept, and their latency.

It is written to the run's folder as ``latency.json`` before the first step, so that a resumed
search keeps as many neurons; in the end it is also in the result and in the ticket. Imports nothing
heavy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tamtctl.foundations.errors import DamagedRunError
from tamtctl.foundations.estimates import Interval
from tamtctl.foundations.plain_files import read_regular
from tamtctl.models.sizes import Size
from tamtctl.pruning.latency.counting import sparsity_keeping
from tamtctl.pruning.latency.settings import TORCH
from tamtctl.ticket.format.patterns import NEURONS
from tamtctl.training.run_folder import write_json

LATENCY = "latency.json"
_NEAR = 0.05  # distance from the target beyond which the record explains the miss
_MAX_BYTES = 2**16


@dataclass(frozen=True)
class FoundLatency:
    """How many neurons, or heads, a search keeps for a latency.

    Attributes:
        target: The latency that is asked for, as a share of the dense model's.
        size: Texts, tokens and threads with which models run.
        head: The head that both models keep unpruned while they are timed; None: no head.
        kept: How many are kept in each layer.
        of: How many neurons the dense model has in each layer.
        chosen: The latency measured with this number when it was chosen.
        exported: The latency of the exported ticket; None until there is one.
        backend: What runs the models: ``torch``, or ``onnx``.
        noun: What is counted: ``neurons``, or ``heads``.
    """

    target: float
    size: Size
    head: str | None
    kept: int
    of: int
    chosen: Interval
    exported: Interval | None = None
    backend: str = TORCH
    noun: str = NEURONS.name

    @property
    def sparsity(self) -> float:
        """The sparsity that keeps this number of neurons."""
        return sparsity_keeping(self.kept, self.of)

    @property
    def identity(self) -> dict[str, str]:
        """What a training depends on besides the request: the number of neurons."""
        return {f"{self.noun} of the latency": f"{self.kept} of {self.of}"}

    @property
    def miss(self) -> str | None:
        """Why the exported model is farther than 0.05 from the target; None if it is not."""
        if self.exported is None or abs(self.exported.value - self.target) <= _NEAR:
            return None
        told = (
            f"The exported model takes {self.exported.value:.2f} × the dense one's time, and not "
            f"{self.target:g}: "
        )
        if abs(self.chosen.value - self.target) > _NEAR:
            return told + (
                f"no other number of {self.noun} that was tried is nearer, and {self.kept:,} "
                f"had {self.chosen.value:.2f} {self.chosen.brackets}."
            )
        return told + (
            f"as {self.kept:,} {self.noun} were chosen, they had {self.chosen.value:.2f} "
            f"{self.chosen.brackets}; times vary on this machine. When it has less to do, --force "
            "measures anew."
        )

    def __str__(self) -> str:
        """Return one line about the latest measurement."""
        ratio = self.exported or self.chosen
        return (
            f"{ratio.value:.2f} × dense {ratio.brackets}{with_head(self.head)} at {self.size}, "
            f"{self.backend}, for {self.kept:,} of {self.of:,} {self.noun} in each layer; "
            f"{self.target:g} is asked for"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        told = {
            "target": self.target,
            "backend": self.backend,
            **asdict(self.size),
            "head": self.head,
            "kept": self.kept,
            "of": self.of,
            "chosen": self.chosen.to_dict(),
            **({} if self.noun == NEURONS.name else {"noun": self.noun}),
        }
        if self.exported is not None:
            told |= {"exported": self.exported.to_dict(), "miss": self.miss}
        return told

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote.

        Raises:
            TypeError: The values are something else.
        """
        try:
            exported = values.get("exported")
            return cls(
                target=values["target"],
                size=Size(values["threads"], values["batch"], values["length"]),
                head=values["head"],
                kept=values["kept"],
                of=values["of"],
                chosen=Interval(**values["chosen"]),
                exported=None if exported is None else Interval(**exported),
                backend=values.get("backend", TORCH),
                noun=values.get("noun", NEURONS.name),
            )
        except KeyError as error:
            raise TypeError(f"{error} is missing") from error

    def write(self, run: Path) -> None:
        """Write the record to a run's folder."""
        write_json(run / LATENCY, self.to_dict())

    @classmethod
    def read(cls, run: Path) -> Self | None:
        """Return the record in a run's folder; None if there is none.

        Raises:
            DamagedRunError: The record cannot be read.
        """
        if not (run / LATENCY).exists():
            return None
        try:
            return cls.from_dict(json.loads(read_regular(run / LATENCY, _MAX_BYTES)))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedRunError(
                f"{str(run / LATENCY)!r}, which says how much the run keeps, cannot be read"
                "; --force measures anew"
            ) from error


def with_head(head: str | None) -> str:
    """Say which head a model is run with; nothing if with none."""
    return "" if head is None else f" with its {head} head"
