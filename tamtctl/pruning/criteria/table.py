"""The shelf of criteria: a criterion says how much each weight matters, before any training.

A criterion is a ``--method`` of its own, whose ticket is found at once, and an ``--init`` that mask
training starts from. Imports nothing heavy. To add one: a file beside this one, and a row in
`CRITERIA`; from another package or a script the same by `register`. The file defines

    scores(context: Context) -> Mapping[str, Tensor]    name → importance of each weight

see `tamtctl.pruning.criteria.context`. An importance is a finite number; the largest are kept. A
matrix that ``scores`` leaves out gets the mask of the `REFERENCE`. `magnitude` is the shortest
example.

Names joined by ``*``, such as ``magnitude*random``, are a criterion, too: `find_criterion` makes
one row out of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Row, Shelf
from tamtctl.pruning.statistics.table import STATISTICS

if TYPE_CHECKING:
    from torch import Tensor

    from tamtctl.pruning.criteria.context import Context


@dataclass(frozen=True, kw_only=True)
class Criterion(Row):
    """A criterion: how to rank weights, and facts about it for other code.

    Attributes:
        label: What tables and sentences call it; None: its name.
        statistics: The statistics of the calibration text that it needs, names in
            `tamtctl.pruning.statistics.table.STATISTICS`. The next three are true if one of these
            needs it, too.
        needs_text: Whether it needs the live model and text. A comparison then makes a run for it;
            the mask of any other criterion is made on the spot.
        needs_head: Whether it needs the model's pre-trained masked-LM head.
        needs_noise: Whether it needs text with masked tokens.
        group: Which weights compete with each other: those of a matrix, or those of each output row
            of a linear layer. A table of embeddings always competes as a whole, for its rows are
            tokens; without a model, tables are not known as such.
        needs_counts: Whether it has to know how many weights each matrix keeps; it can then not set
            budgets itself.
        has_unit: Whether an importance means the same in every matrix, so that budgets can follow
            from it.
        has_seeds: Whether another seed gives another mask.
        least_seeds: Fewest seeds with which a comparison measures it.
        is_baseline: Whether every ticket is compared with it by default; only without needs_text.
        breaks_ties: Whether the larger weight is kept among equal importances; else the earlier
            one.
        version: Raise it whenever the same request would give another mask: results of an older
            version are then not reused.
        style: Colour and marker in figures; None takes the next free one.
    """

    label: str | None = None
    statistics: tuple[str, ...] = ()
    needs_text: bool = False
    needs_head: bool = False
    needs_noise: bool = False
    group: Literal["matrix", "row"] = "matrix"
    needs_counts: bool = False
    has_unit: bool = True
    has_seeds: bool = False
    least_seeds: int = 1
    is_baseline: bool = False
    breaks_ties: bool = True
    version: int = 1
    style: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Add what follows from the statistics, and check that the attributes go together.

        Raises:
            UsageError: They do not, or there is no such statistic.
        """
        if not isinstance(self.statistics, tuple):
            raise UsageError(f"the statistics of criterion {self.name!r} are no tuple of names")
        found = [STATISTICS.find(name) for name in self.statistics]
        for fact, of_statistics in {
            "needs_text": bool(found),
            "needs_head": any(one.needs_head for one in found),
            "needs_noise": any(one.needs_noise for one in found),
        }.items():
            object.__setattr__(self, fact, getattr(self, fact) or of_statistics)
        if self.group not in ("matrix", "row"):
            raise UsageError(
                f"criterion {self.name!r} compares weights within a matrix or a row, not within "
                f"{self.group!r}"
            )
        if (self.needs_head or self.needs_noise) and not self.needs_text:
            raise UsageError(
                f"criterion {self.name!r} needs a head or noise, and so it needs_text, too"
            )
        if self.needs_counts and self.has_unit:
            raise UsageError(
                f"criterion {self.name!r} needs_counts, and so budgets cannot follow from it: say "
                "has_unit=False"
            )
        if self.is_baseline and self.needs_text:
            raise UsageError(f"criterion {self.name!r} needs text, and so it cannot be a baseline")

    def scores(self, context: Context) -> Mapping[str, Tensor]:
        """Return name → importance of every weight, for the matrices that the criterion reaches."""
        scores: Mapping[str, Tensor] = self.function("scores")(context)
        return scores

    def seeds(self, asked: tuple[int, ...] = ()) -> tuple[int | None, ...]:
        """Return the seeds of a comparison: those asked for, if they are at least ``least_seeds``.

        None stands for a mask without a seed.
        """
        if not self.has_seeds:
            return (None,)
        enough = tuple(range(1, self.least_seeds + 1))
        return asked if len(asked) >= self.least_seeds else enough


CRITERIA: Shelf[Criterion] = Shelf(
    "criterion",
    [
        Criterion(
            name="magnitude",
            code="tamtctl.pruning.criteria.magnitude",
            is_baseline=True,
            breaks_ties=False,
            style=("#E69F00", "v"),
        ),
        Criterion(
            name="random",
            code="tamtctl.pruning.criteria.random_scores",
            has_unit=False,
            has_seeds=True,
            least_seeds=3,  # random masks differ most between seeds, and cost nothing
            is_baseline=True,
            breaks_ties=False,
            style=("#999999", "X"),
        ),
        Criterion(
            name="wanda",
            code="tamtctl.pruning.criteria.wanda",
            label="Wanda",
            statistics=("input-norms",),
            group="row",
            style=("#56B4E9", "<"),
        ),
        Criterion(
            name="ria",
            code="tamtctl.pruning.criteria.ria",
            label="RIA",
            statistics=("input-norms",),
            style=("#332288", "p"),
        ),
        Criterion(
            name="obs",
            code="tamtctl.pruning.criteria.obs",
            label="OBS",
            statistics=("curvatures",),
            style=("#CC6677", "d"),
        ),
        Criterion(
            name="snip",
            code="tamtctl.pruning.criteria.snip",
            label="SNIP",
            statistics=("gradient-sums",),
            style=("#999933", ">"),
        ),
        Criterion(
            name="taylor",
            code="tamtctl.pruning.criteria.taylor",
            label="Taylor",
            statistics=("squared-batch-gradients",),
            style=("#6699CC", "H"),
        ),
        Criterion(
            name="fisher",
            code="tamtctl.pruning.criteria.fisher",
            label="Fisher",
            statistics=("squared-gradients",),
            style=("#117733", "8"),
        ),
        Criterion(
            name="fisher-kd",
            code="tamtctl.pruning.criteria.fisher_kd",
            label="Fisher-KD",
            statistics=("squared-state-gradients",),
            style=("#661100", "*"),
        ),
        Criterion(
            name="swaps",
            code="tamtctl.pruning.criteria.swaps",
            label="Swaps",
            statistics=("gram-matrices",),
            needs_counts=True,
            has_unit=False,
            style=("#DDAA33", "P"),
        ),
    ],
    reserved=r"tamt(-.*)?|imp|dense|ticket",
)
register = CRITERIA.register
JOINED_BY = "*"  # stands between the names of criteria


# The baseline that training has to beat; it also ranks matrices that a criterion leaves out.
REFERENCE = "magnitude"


def baselines() -> tuple[Criterion, ...]:
    """Return the criteria that every ticket is compared with by default."""
    return tuple(row for row in CRITERIA.values() if row.is_baseline)


def is_criterion(name: str) -> bool:
    """Whether a name, or at least one of its parts joined by ``*``, is a criterion."""
    return any(part in CRITERIA for part in name.split(JOINED_BY))


def find_criterion(name: str) -> Criterion:
    """Return the row of a criterion, or that of a combined order such as ``magnitude*random``.

    Raises:
        UsageError: There is no such criterion, or one is named twice or missing.
    """
    if not all(name.split(JOINED_BY)):
        raise UsageError(f"criterion {name!r} lacks a name beside the {JOINED_BY}")
    parts = [CRITERIA.find(part) for part in name.split(JOINED_BY)]
    if len(parts) == 1:
        return parts[0]
    if len({row.name for row in parts}) < len(parts):
        raise UsageError(f"criterion {name!r} names one twice; give each once")
    joined = JOINED_BY.join(row.name for row in parts)
    return Criterion(
        name=joined,
        code=_Combined(name=joined, parts=tuple(parts)),
        label=JOINED_BY.join(row.label or row.name for row in parts),
        needs_text=any(row.needs_text for row in parts),
        needs_head=any(row.needs_head for row in parts),
        needs_noise=any(row.needs_noise for row in parts),
        statistics=tuple(dict.fromkeys(one for row in parts for one in row.statistics)),
        needs_counts=any(row.needs_counts for row in parts),
        has_unit=False,  # importances are standardised within each matrix
        has_seeds=any(row.has_seeds for row in parts),
        least_seeds=max(row.least_seeds for row in parts),
        version=1 + sum(row.version - 1 for row in parts),
    )


@dataclass(frozen=True, kw_only=True)
class _Combined(Row):
    """The code of a combined order."""

    code: str | object = "tamtctl.pruning.criteria.combined"
    parts: tuple[Criterion, ...]

    def scores(self, context: Context) -> Mapping[str, Tensor]:
        """Return name → importance of every weight, for the matrices that all parts reach."""
        found: Mapping[str, Tensor] = self.function("combined")(self.parts, context)
        return found
