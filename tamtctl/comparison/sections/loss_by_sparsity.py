"""Losses and metrics of every method at every level: the main table, and its figure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamtctl.comparison.found import Found, Picture, Table
from tamtctl.comparison.measures import heading, upright_axis
from tamtctl.comparison.rendering.plotting import (
    by_line,
    dense_line,
    interval_bars,
    legend,
    panels,
    styles,
)
from tamtctl.comparison.subnetworks import (
    DENSE,
    Ceiling,
    Subnetwork,
    is_scored,
    loss_over_seeds,
    metric_over_seeds,
    steps_of,
)
from tamtctl.comparison.winners import winners
from tamtctl.foundations.estimates import thousandths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tamtctl.comparison.opening import Opened
    from tamtctl.comparison.result import Comparison

_CAPTION = (
    "Held-out loss against sparsity, with the pre-trained head. Bars: 95 % interval of each mean "
    "over the held-out sequences; dots: seeds, where there are several. The dashed line is the "
    "dense model. Methods share the text, so that a difference can be sure where bars overlap: "
    "sentences and tables have intervals of differences."
)

_FILLINGS = ("full", "none", "left", "right", "top", "bottom")  # of markers, line by line


def find(comparison: Comparison, opened: Opened) -> Losses:
    """Return the losses of a comparison, which it always has."""
    return Losses(comparison)


@dataclass(frozen=True)
class Losses(Found):
    """The losses that were measured, and the tasks' metrics."""

    comparison: Comparison

    def lead(self) -> list[str]:
        """Return which method wins at each level in each loss, and by how much."""
        return list(winners(self.comparison))

    def table(self) -> Table:
        """Return a row for every method and level, in a fixed order.

        Rows are sorted by level, then in the order of ``--methods``; with tickets, baselines come
        first.
        """
        tasks = self.comparison.config.tasks
        first = self.comparison.subnetworks[0]
        columns = ["sparsity", "method", *map(heading, self.comparison.measures)]
        columns += [f"{task} ({first.metrics[task].label})" for task in tasks]
        parts = self._parts()
        columns += [f"sparsity of {part}" for part in parts] + ["mask flipped", "steps"]
        groups = sorted(
            self.comparison.groups.items(), key=lambda item: (item[0][0] != DENSE, item[0][1])
        )
        rows = [self._row(group, parts) for _, group in groups]
        rows[1:1] = [self._row_of(one, len(columns)) for one in self.comparison.ceilings]
        return Table(columns, rows, words=2)

    def _row_of(self, one: Ceiling, columns: int) -> list[str]:
        """Return the row of a ceiling, which has no mask and no task metrics."""
        losses = [thousandths(one.losses[measure].mean) for measure in self.comparison.measures]
        row = ["–", one.label, *losses]
        return [*row, *["–"] * (columns - len(row) - 1), f"{one.steps:,}"]

    def _parts(self) -> list[str]:
        """Return the names of the parts, embeddings and layers, if their sparsities differ."""
        return list(
            dict.fromkeys(part for one in self.comparison.subnetworks for part in one.split)
        )

    def _row(self, group: Sequence[Subnetwork], parts: Sequence[str]) -> list[str]:
        one = group[0]
        row = ["–" if one.method == DENSE else str(one.level), one.label]
        row += [str(loss_over_seeds(group, measure)) for measure in self.comparison.measures]
        row += [
            str(metric_over_seeds(group, task)) if is_scored(group, task) else "diverged"
            for task in self.comparison.config.tasks
        ]
        row += [f"{one.split[part]:.3f}" if part in one.split else "–" for part in parts]
        row.append("–" if one.is_one_shot else _flipped([o.flips["all"] for o in group if o.flips]))
        row.append(steps_of(group))
        return row

    def picture(self) -> Picture:
        """Return the losses against the sparsity, a panel for each loss."""
        return Picture(_CAPTION, self._drawn)

    def _drawn(self) -> Figure:
        comparison = self.comparison
        figure, all_axes = panels(len(comparison.measures))
        style = styles(comparison)
        dense = comparison.subnetworks[0]
        for axes, measure in zip(all_axes, comparison.measures, strict=True):
            fillings = {method: itertools.cycle(_FILLINGS) for method in style}
            for (method, label), groups in by_line(comparison).items():
                points = {x: [one.losses[measure] for one in those] for x, those in groups.items()}
                look = style[method] | {"fillstyle": next(fillings[method])}
                interval_bars(axes, points, label, look)
            dense_line(axes, dense.losses[measure].mean)
            axes.set(xlabel="sparsity", ylabel=upright_axis(measure))
            axes.set_xticks(sorted({one.sparsity for one in comparison.subnetworks if one.masks}))
        legend(figure, all_axes)
        return figure


def _flipped(shares: Sequence[float]) -> str:
    """Return the mean share of flipped bits in percent; no flips at all are named as such."""
    if not shares:
        return "–"
    mean = sum(shares) / len(shares)
    return "none" if not any(shares) else f"{mean:.1%}" if mean >= 0.0005 else "< 0.1%"
