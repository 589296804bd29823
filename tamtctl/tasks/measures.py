"""What ``evaluate`` measures on files of one's own without any fine-tuning, a row each.

Imports nothing heavy. To add one: a file with

    measure(config, row, ticket, fine_tuned) -> Evaluation

and a row in `MEASURES`; the settings that it takes are fields of `EvaluateConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.foundations.shelves import Row, Shelf


@dataclass(frozen=True, kw_only=True)
class Measure(Row):
    """Something that is measured of a model, a ticket or a checkpoint.

    Attributes:
        summary: What it is, in a few words.
        needs: The settings of an evaluation that it cannot do without, and that are for it alone.
    """

    summary: str
    needs: tuple[str, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """What these settings are called on the command line."""
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
