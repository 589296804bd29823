"""Whether a loss predicts the metric of a task: rank correlations over methods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tamtctl.comparison.found import Found, Picture, Table
from tamtctl.comparison.intervals import (
    MIN_METHODS,
    RankCorrelation,
    Spread,
    rank_correlation,
    too_few,
    too_few_examples,
    too_few_sequences,
)
from tamtctl.comparison.measures import axis, words
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.rendering.plotting import (
    by_method,
    dense_line,
    error_bars,
    legend,
    panels,
    styles,
)
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import did_not_train, is_scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PREFACE = (
    "Whether a loss foretells a score is a question for each sparsity: over several of them, the "
    "two mostly go together whatever the methods, since more sparsity makes losses higher and, as "
    "a rule, scores worse. Intervals of rank correlations are from a bootstrap over methods, each "
    "with all of its sparsities."
)
_CAPTION = (
    "Score on a task against held-out loss, one point per subnetwork. In the title, where there "
    "are enough methods: their rank correlation within a sparsity, the mean over the sparsities, "
    "with the 95 % interval of a bootstrap over methods."
)


@dataclass(frozen=True)
class Correlations(Found):
    """Rank correlations of losses and metrics.

    Attributes:
        comparison: The comparison.
        found: Task → measure → the correlation of loss and metric; empty without tasks.
        failed: Task → a clause on methods with runs that did not train, where there are any.
    """

    comparison: Comparison
    found: Mapping[str, Mapping[str, RankCorrelation]]
    failed: Mapping[str, str]

    def preface(self) -> list[str]:
        """Return why a correlation pooled over sparsities says nothing of the methods."""
        return [_PREFACE] if self.found else []

    def sentences(self) -> list[str]:
        """Return a sentence for each task and loss."""
        return [
            correlation_sentence(task, measure, found) + self.failed.get(task, "")
            for task, by_measure in self.found.items()
            for measure, found in by_measure.items()
        ]

    def table(self) -> Table | None:
        """Return the rank correlations within each sparsity, their mean, and what pooling gives."""
        if not self.found:
            return None
        rows = []
        for task, by_measure in self.found.items():
            for measure, found in by_measure.items():
                rows += [[task, words(measure), *row] for row in _rows(found)]
        heading = ["task", "loss", "rank correlation", "", "value", "95 % interval"]
        return Table(heading, rows, words=4)

    def picture(self) -> Picture | None:
        """Return the metrics against the losses, a panel for each task and loss."""
        return Picture(_CAPTION, self._drawn) if self.found else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "correlations": {
                task: {measure: found.to_dict() for measure, found in by_measure.items()}
                for task, by_measure in self.found.items()
            }
        }

    def _drawn(self) -> Figure:
        pairs = [(task, measure) for task, found in self.found.items() for measure in found]
        figure, all_axes = panels(len(pairs))
        style = styles(self.comparison)
        for axes, (task, measure) in zip(all_axes, pairs, strict=True):
            for method, groups in by_method(self.comparison).items():
                ones = [one for group in groups.values() for one in group if is_scored([one], task)]
                if not ones:
                    continue
                losses = [one.losses[measure].mean for one in ones]
                spreads = [one.metrics[task].over_seeds for one in ones]
                points = style[method] | {"linestyle": "none"}
                error_bars(axes, losses, spreads, ones[0].label, points)
            dense = self.comparison.subnetworks[0].metrics[task]
            dense_line(axes, dense.over_seeds.mean)
            r = self.found[task][measure].mean
            title = f"{task}: {r.value:.2f} {r.brackets}" if r else task
            axes.set(title=title, xlabel=axis(measure), ylabel=dense.label)
        legend(figure, all_axes)
        return figure


def find(comparison: Comparison, opened: Opened) -> Correlations:
    """Return the correlation of each task's metric with each loss over the methods of a level."""
    found: dict[str, dict[str, RankCorrelation]] = {}
    for task, measure in itertools.product(comparison.config.tasks, comparison.measures):
        found.setdefault(task, {})[measure] = _correlation(comparison, task, measure)
    masked = [group for group in comparison.groups.values() if group[0].masks]
    failed = {
        task: f"; {clause}"
        for task in comparison.config.tasks
        if (clause := did_not_train([one for one in masked if is_scored(one, task)], task))
    }
    return Correlations(comparison, found, failed)


def _correlation(comparison: Comparison, task: str, measure: str) -> RankCorrelation:
    masked = {key: group for key, group in comparison.groups.items() if group[0].masks}
    points: dict[str, dict[str, tuple[float, float]]] = {}
    seen = set()
    for (method, level), group in sorted(masked.items(), key=lambda item: item[0][1]):
        masks = (level, *(one.masks.digest for one in group if one.masks))
        if masks in seen:  # one mask under two names is one point
            continue
        seen.add(masks)
        if not is_scored(group, task):
            continue
        loss = Spread.of([one.losses[measure].mean for one in group]).mean
        score = Spread.of([one.metrics[task].over_seeds.mean for one in group]).mean
        points.setdefault(str(level), {})[method] = (loss, score)
    dense = comparison.subnetworks[0]
    why = too_few_sequences(dense.losses[measure]) or too_few_examples(dense.metrics[task].runs)
    return rank_correlation(points, why_none=why)


def _rows(found: RankCorrelation) -> list[list[str]]:
    """Return the last four cells of the rows of one task and loss."""
    rows = []
    for level, rho in found.within.items():
        methods = f"{found.methods[level]} methods"
        value = f"{rho:.3f}" if rho is not None else _why_no_rank(found.methods[level])
        rows.append([f"within {level}", methods, value, "–"])
    mean = found.mean
    value = f"{mean.value:.3f}" if mean else "–"
    rows.append(["mean of those within", "", value, mean.brackets if mean else found.why_none])
    pooled = "–" if found.pooled is None else f"{found.pooled:.3f}"
    rows.append(["Pearson's over all sparsities", "", pooled, "no evidence, see above"])
    return rows


def _why_no_rank(methods: int) -> str:
    return too_few(methods, MIN_METHODS, "method") if methods < MIN_METHODS else "all are alike"


def correlation_sentence(task: str, measure: str, found: RankCorrelation) -> str:
    """Return a sentence on the correlation within sparsities and, to compare, the pooled one."""
    about = f"{words(measure)} and {task}"
    if found.mean is None or not math.isfinite(found.mean.value):
        return f"{about} over the methods of a sparsity: {found.why_none}"
    sure = (
        f"95 % interval {found.mean.brackets}, from a bootstrap over methods"
        if found.mean.low is not None
        else f"without an interval: {found.mean.why_none}"
    )
    within = ", ".join(
        f"{level}: {'–' if r is None else f'{r:.2f}'}" for level, r in found.within.items()
    )
    sentence = (
        f"{about}: within a sparsity, their rank correlation over the methods is "
        f"{found.mean.value:.2f} on average ({within}), {sure}"
    )
    if found.pooled is None or len(found.within) < 2:
        return sentence
    return (
        f"{sentence}; over all sparsities Pearson's correlation is {found.pooled:.2f}, which is no "
        "evidence: more sparsity alone mostly makes losses higher and scores worse"
    )
