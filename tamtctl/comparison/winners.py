"""The first sentences of a report: which method wins at each level, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tamtctl.comparison.intervals import loss_difference
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import term_of, words
from tamtctl.comparison.subnetworks import Subnetwork, loss_over_seeds
from tamtctl.foundations.estimates import thousandths
from tamtctl.pruning.objectives import terms_of

if TYPE_CHECKING:
    from tamtctl.comparison.result import Comparison


def winners(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence for each loss and level: the method with the lowest loss, and its lead."""
    levels: dict[Level, list[Sequence[Subnetwork]]] = {}
    for (_, level), group in comparison.groups.items():
        if group[0].masks:
            levels.setdefault(level, []).append(group)
    for measure in comparison.measures:
        for level, groups in sorted(levels.items(), key=lambda item: item[0]):
            if groups[1:]:
                yield _winner(comparison, measure, level, groups)


def _winner(
    comparison: Comparison, measure: str, level: Level, groups: Sequence[Sequence[Subnetwork]]
) -> str:
    best, second, *_ = sorted(groups, key=lambda group: loss_over_seeds(group, measure).mean)
    dense = comparison.subnetworks[0].losses[measure].mean

    def written(loss: float) -> str:
        return terms_of(term_of(measure)).written(thousandths(loss))

    first = (
        f"At sparsity {level}, {best[0].label} has the lowest {words(measure)} of "
        f"{len(groups)} methods, {written(loss_over_seeds(best, measure).mean)}, where the dense "
        f"model has {thousandths(dense)}"
    )
    interval = loss_difference(
        *([one.losses[measure] for one in group] for group in (best, second))
    )
    masks = {one.masks.digest for group in (best, second) for one in group if one.masks}
    if len(masks) == 1:
        return f"{first}; {second[0].label} is the same mask."
    if interval.low is None:
        return f"{first}, but whether that is chance cannot be told: {interval.why_none}."
    if not interval.is_significant:
        return (
            f"{first}, but it cannot be told apart from {second[0].label}: a difference of "
            f"{written(interval.value)}, 95 % interval {interval.brackets}."
        )
    return (
        f"{first}; the next, {second[0].label}, is {written(abs(interval.value))} behind, "
        f"95 % interval {interval.brackets_of_size}."
    )
