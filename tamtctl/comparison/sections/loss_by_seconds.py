"""Losses against the seconds that each mask took: whether training is worth its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tamtctl.comparison.found import Found, Picture, Table
from tamtctl.comparison.intervals import loss_difference
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import term_of, upright_axis, words
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.rendering.plotting import dense_line, legend, panels, styles
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import Subnetwork, loss_over_seeds
from tamtctl.foundations.estimates import number_or_none, thousandths
from tamtctl.pruning.criteria import REFERENCE
from tamtctl.pruning.objectives import terms_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTION = (
    "Held-out loss against the seconds that a mask took on this machine, the calibration of its "
    "criterion included (means over seeds; criteria that a sweep calibrates in one pass count all "
    "of it); on the right, the share of the gap from magnitude to "
    "dense that it closes. A line goes along the training of the first seed, as far as it was "
    "evaluated. Its learning rate falls to the end: a shorter training does better than the same "
    "point on the line."
)
_Group = Sequence[Subnetwork]


@dataclass(frozen=True)
class Cost:
    """The seconds that a method takes, and its share of the gap from magnitude to dense.

    Attributes:
        method: The label of the method.
        level: The level at which it is compared.
        measure: The loss.
        seconds: Seconds of calibration and training, the mean over its seeds.
        calibration_seconds: The part of them that its calibration took, together with that of the
            other criteria that shared its pass over the text.
        loss: Its held-out loss, the mean over its seeds.
        gap_closed: Share of the gap from magnitude's loss to dense that it closes; None where
            magnitude is no worse than dense, or only by chance.
        along: Pairs of seconds and share of the gap, one for each evaluation during training.
    """

    method: str
    level: Level
    measure: str
    seconds: float
    calibration_seconds: float
    loss: float
    gap_closed: float | None
    along: tuple[tuple[float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self) | {"loss": number_or_none(self.loss)}
        del values["level"]
        return values | {"sparsity": self.level.sparsity, "among": self.level.among or None}


@dataclass(frozen=True)
class LossesBySeconds(Found):
    """The seconds and losses of every method, level by level."""

    comparison: Comparison
    costs: Sequence[Cost]
    verdicts: Sequence[str]

    def lead(self) -> list[str]:
        """Return whether training was worth its seconds in the first loss, as whole sentences."""
        first = f" in {words(self.comparison.measures[0])}, "
        told = [verdict for verdict in self.verdicts if first in verdict]
        return [f"{verdict[0].upper()}{verdict[1:]}." for verdict in told]

    def sentences(self) -> Sequence[str]:
        """Return whether training was worth its seconds."""
        return self.verdicts

    def table(self) -> Table:
        """Return the seconds of each method and the gap that it closes."""
        heading = ["sparsity", "loss", "method", "gap closed", "seconds", "of them calibration"]
        rows = [
            [
                str(one.level),
                words(one.measure),
                one.method,
                _percent(one.gap_closed),
                f"{one.seconds:,.0f}",
                f"{one.calibration_seconds:,.0f}",
            ]
            for one in self.costs
        ]
        return Table(heading, rows, words=3)

    def picture(self) -> Picture | None:
        """Return the gap closed against the seconds, a panel for each level and loss."""
        is_drawn = any(one.gap_closed is not None for one in self.costs)
        return Picture(_CAPTION, self._drawn) if is_drawn else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"costs": [one.to_dict() for one in self.costs]}

    def _drawn(self) -> Figure:
        style = styles(self.comparison)
        style_of = {one.label: style[one.method] for one in self.comparison.subnetworks[1:]}
        known = {(one.measure, one.level) for one in self.costs if one.gap_closed is not None}
        order = self.comparison.measures.index
        places = sorted(known, key=lambda place: (order(place[0]), place[1]))
        figure, all_axes = panels(len(places), columns=len({level for _, level in places}))
        for axes, (measure, level) in zip(all_axes, places, strict=True):
            dense = self.comparison.subnetworks[0].losses[measure].mean
            of_panel = [one for one in self.costs if (one.measure, one.level) == (measure, level)]
            # The share of the gap is linear in the loss: magnitude (0) and dense (1) give the line.
            worst = next(one.loss for one in of_panel if one.gap_closed == 0)
            to_loss = partial(_on_line, start=worst, slope=(dense - worst) / 100)
            to_share = partial(
                _on_line, start=worst / (worst - dense) * 100, slope=100 / (dense - worst)
            )
            for one in of_panel:
                if one.gap_closed is None:
                    continue
                points = [*one.along, (one.seconds, one.gap_closed)]
                x, y = zip(
                    *((seconds, to_loss(100 * share)) for seconds, share in points), strict=True
                )
                axes.plot(x, y, label=one.method, linewidth=1.2, **style_of[one.method])
            dense_line(axes, dense)
            axes.set_xscale("symlog", linthresh=1)
            axes.xaxis.set_major_formatter("{x:g}")  # plain numbers instead of powers of ten
            axes.set(title=f"sparsity {level}", xlabel="seconds", ylabel=upright_axis(measure))
            shares = axes.secondary_yaxis("right", functions=(to_share, to_loss))
            shares.set_ylabel("gap closed (%)")
        legend(figure, all_axes)
        return figure


def find(comparison: Comparison, opened: Opened) -> LossesBySeconds | None:
    """Return what the masks of a sweep cost; None without a magnitude mask to compare with."""
    if comparison.config.tickets:  # tickets do not record what they cost
        return None
    costs: list[Cost] = []
    verdicts: list[str] = []
    for level, groups in _levels(comparison):
        for measure in comparison.measures:
            closed = _share_of_gap(comparison, groups[REFERENCE], measure)
            own = {method: _cost(group, level, measure, closed) for method, group in groups.items()}
            costs += own.values()
            verdicts += _verdict(groups, own)
    return LossesBySeconds(comparison, costs, verdicts) if costs else None


def _levels(comparison: Comparison) -> Iterator[tuple[Level, dict[str, _Group]]]:
    """Yield each level that has a magnitude mask, with method → subnetworks of known cost."""
    found: dict[Level, dict[str, _Group]] = {}
    for (method, level), group in comparison.groups.items():
        if group[0].masks and all(one.seconds is not None for one in group):
            found.setdefault(level, {})[method] = group
    for level, groups in sorted(found.items()):
        if REFERENCE in groups and len(groups) > 1:
            yield level, groups


def _share_of_gap(
    comparison: Comparison, reference: _Group, measure: str
) -> Callable[[float], float | None]:
    """Return the function from a loss to the share of the gap that it closes, None without one."""
    of_dense = comparison.subnetworks[0].losses[measure]
    dense, worst = of_dense.mean, loss_over_seeds(reference, measure).mean
    gap = loss_difference([one.losses[measure] for one in reference], [of_dense])
    has_gap = worst > dense and (gap.low is None or gap.is_claimed)
    return lambda loss: (worst - loss) / (worst - dense) if has_gap else None


def _cost(
    group: _Group, level: Level, measure: str, closed: Callable[[float], float | None]
) -> Cost:
    loss = loss_over_seeds(group, measure).mean
    calibration = float(np.mean([one.calibration_seconds for one in group]))
    training = float(np.mean([one.seconds for one in group if one.seconds is not None]))
    points = (
        (calibration + group[0].seconds_at[step], closed(losses[term_of(measure)]))
        for step, losses in group[0].along.items()
        if term_of(measure) in losses and step in group[0].seconds_at
    )
    return Cost(
        method=group[0].label,
        level=level,
        measure=measure,
        seconds=calibration + training,
        calibration_seconds=calibration,
        loss=loss,
        gap_closed=closed(loss),
        along=tuple((seconds, share) for seconds, share in points if share is not None),
    )


def _verdict(groups: Mapping[str, _Group], costs: Mapping[str, Cost]) -> Iterator[str]:
    """Yield a sentence on what training gained over the best mask without it, if both exist.

    Args:
        groups: Method → its subnetworks at one level.
        costs: Method → its cost in one loss.
    """
    at_once = [method for method, group in groups.items() if group[0].is_one_shot]
    trained = [method for method in groups if method not in at_once]
    if not (at_once and trained):
        return
    best, other = (
        min(those, key=lambda method: costs[method].loss) for those in (trained, at_once)
    )
    level, measure = costs[best].level, costs[best].measure
    interval = loss_difference(
        *([one.losses[measure] for one in groups[method]] for method in (best, other))
    )
    if interval.low is None:
        return
    written = terms_of(term_of(measure)).written
    if not interval.is_claimed:
        told = (
            "training brought nothing that can be told, a difference of "
            f"{written(thousandths(interval.value))}, 95 % interval {interval.brackets}"
        )
    else:
        brought = "was worth it" if interval.value < 0 else "made it worse"
        size = written(thousandths(abs(interval.value)))
        told = f"training {brought}, by {size}, 95 % interval {interval.brackets_of_size}"
    yield (
        f"at {level} in {words(measure)}, the best mask without training is "
        f"{_bill(costs[other])}, the best trained one {_bill(costs[best])}: {told}"
    )


def _bill(cost: Cost) -> str:
    closed = f" ({_percent(cost.gap_closed)} of the gap)" if cost.gap_closed is not None else ""
    return f"{cost.method}{closed} in {cost.seconds:,.0f} s"


def _on_line(x: Any, *, start: float, slope: float) -> Any:
    return start + slope * x


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
