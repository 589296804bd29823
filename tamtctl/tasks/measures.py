"""The shelf of measures: what ``evaluate`` measures on a user's files without fine-tuning.

Imports nothing heavy. To add a measure, add a file with

    read(config, row) -> object           its files; raises TamtctlError for bad ones
    check_embeddings(name) -> None        raises TamtctlError for a model that it cannot measure
    measure(config, row, ticket, fine_tuned) -> Evaluation

and a row to `MEASURES`; the settings that it takes are fields of `EvaluateConfig`, and of the
settings of a comparison.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tamtctl.foundations.config import Config
from tamtctl.foundations.errors import UsageError
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

    def missing(self, config: Config) -> list[str]:
        """Return the options of the settings in ``needs`` that a configuration leaves open."""
        values = self.settings(config).values()
        return [option for option, v in zip(self.options, values, strict=True) if not v]

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


def check_files(config: Config, tasks: Collection[str], option: str) -> None:
    """Refuse files of a measure that is not asked for, and a measure without its files.

    Args:
        config: Has the files of all measures.
        tasks: The tasks that are asked for.
        option: The option that asks for a task.

    Raises:
        UsageError: One is missing or too many.
    """
    for row in MEASURES.values():
        missing = row.missing(config)
        if row.name in tasks:
            if missing:
                raise UsageError(f"{option} {row.name} needs {missing[0]}, too")
        elif given := [needed for needed in row.options if needed not in missing]:
            raise UsageError(f"{given[0]} is for the task {row.name}; add {option} {row.name}")
