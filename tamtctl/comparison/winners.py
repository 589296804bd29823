"""The first sentences of a report: which method wins at each level, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tamtctl.comparison.intervals import loss_difference, metric_difference
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import term_of, words
from tamtctl.comparison.subnetworks import (
    Subnetwork,
    did_not_train,
    is_scored,
    loss_over_seeds,
    metric_over_seeds,
)
from tamtctl.foundations.estimates import Interval, thousandths
from tamtctl.pruning.objectives import terms_of
from tamtctl.tasks.kinds.table import higher_is_better

if TYPE_CHECKING:
    from tamtctl.comparison.result import Comparison


def winners(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence for each loss, task and level: the best method, and its lead."""
    levels: dict[Level, list[Sequence[Subnetwork]]] = {}
    for (_, level), group in comparison.groups.items():
        if group[0].masks:
            levels.setdefault(level, []).append(group)
    for measure in comparison.measures:
        for level, groups in sorted(levels.items(), key=lambda item: item[0]):
            if groups[1:]:
                yield _winner(comparison, measure, level, groups)
    for task in comparison.config.tasks:
        for level, groups in sorted(levels.items(), key=lambda item: item[0]):
            scored = [group for group in groups if is_scored(group, task)]
            if scored[1:]:
                yield _best_score(comparison, task, level, scored)


def _best_score(
    comparison: Comparison, task: str, level: Level, groups: Sequence[Sequence[Subnetwork]]
) -> str:
    dense = comparison.subnetworks[0].metrics[task]
    best, second, *_ = sorted(
        groups,
        key=lambda group: metric_over_seeds(group, task).mean,
        reverse=higher_is_better(dense.metric),
    )
    first = (
        f"On {task} at sparsity {level}, {best[0].label} has the best "
        f"{dense.metric.replace('_', ' ')} of {len(groups)} methods, "
        f"{thousandths(metric_over_seeds(best, task).mean)}, where the dense model has "
        f"{thousandths(dense.over_seeds.mean)}"
    )
    runs = ([run for one in group for run in one.metrics[task].runs] for group in (best, second))
    lead = _lead(best, second, metric_difference(*runs), thousandths)
    failed = did_not_train(groups, task)
    return first + lead + (f" {failed[0].upper()}{failed[1:]}." if failed else "")


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
    return first + _lead(best, second, interval, written)


def _lead(
    best: Sequence[Subnetwork],
    second: Sequence[Subnetwork],
    interval: Interval,
    written: Callable[[float], str],
) -> str:
    """Return the end of a sentence: how far the best method is ahead of the next."""
    masks = {one.masks.digest for group in (best, second) for one in group if one.masks}
    if len(masks) == 1:
        return f"; {second[0].label} is the same mask."
    if interval.low is None:
        return f", but whether that is chance cannot be told: {interval.why_none}."
    if not interval.is_claimed:
        return (
            f", but it cannot be told apart from {second[0].label}: a difference of "
            f"{written(interval.value)}, 95 % interval {interval.brackets}."
        )
    return (
        f"; the next, {second[0].label}, is {written(abs(interval.value))} behind, "
        f"95 % interval {interval.brackets_of_size}."
    )
