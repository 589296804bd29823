"""The shelf of measures: what ``evaluate`` measures on a user's files without fine-tuning.

Imports nothing heavy. To add a measure, add a file with

    read(config, row) -> object           its files; raises TamtctlError for bad ones
    check_embeddings(name) -> None        raises TamtctlError for a model that it cannot measure
    measure(config, row, ticket, fine_tuned) -> Evaluation

and a row to `MEASURES`; the settings that it takes are fields of `EvaluateConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tamtctl.foundations.config import Config
from tamtctl.foundations.shelves import Row, Shelf


@dataclass(frozen=True, kw_only=True)
class Measure(Row):
    """Something that is measured of a model, a ticket or a checkpoint.

    Attributes:
        summary: A short description.
        needs: Names of the settings that it needs and that no other measure takes.
    """

    summary: str
    needs: tuple[str, ...]

    def settings(self, config: Config) -> dict[str, Any]:
        """Return name → value in a configuration of the settings in ``needs``."""
        return {name: getattr(config, name) for name in self.needs}

    @property
    def options(self) -> tuple[str, ...]:
        """The command-line options of the settings in ``needs``."""
        return tuple("--" + name.replace("_", "-") for name in self.needs)


MEASURES: Shelf[Measure] = Shelf(
    "measure",
    [
        Measure(
            name="retrieval",
            code="tamtctl.tasks.evaluation.retrieval",
            summary="finding the passages that answer a query, by sentence embeddings",
            needs=("queries", "passages", "relevant"),
        ),
    ],
)
