"""What the figures of a comparison share: panels, colours, bars, and drawing for each page.

The colours are those of Okabe and Ito, which most colour-blind people can tell apart, and every
method has a marker of its own besides. On a narrow page panels stand below each other.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from tamtctl.comparison.intervals import Spread, mean_over_seeds
from tamtctl.comparison.levels import Level
from tamtctl.comparison.subnetworks import DENSE, Subnetwork
from tamtctl.pruning.methods import known_method, sweep_methods
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tamtctl.comparison.result import Comparison

_INK, _PAPER, _RULE = "#1f2328", "#ffffff", "#d0d7de"
# Colour on a light page → on a dark one: ink, paper, rules, and colours that black would hide. Two
# methods must differ on dark pages, too.
_ON_DARK = {
    _INK: "#e6edf3", _PAPER: "#0d1117", _RULE: "#30363d", "#0072b2": "#4d9fff",
    "#117733": "#3fb56b", "#332288": "#9585f2", "#661100": "#c8714f", "#882255": "#d16ba5",
}  # fmt: skip
WHITE = "#fefefe"  # white that stays white on a dark page

_PANEL = (4.6, 3.6)  # inches
_TWO_SIDED = 1.96  # standard errors to either side of a 95 % interval
_WIDE_LEGEND, _NARROW_LEGEND = 6, 2  # columns
_LETTERS = 13  # of labels that fit into an inch, beside their markers
_is_narrow: ContextVar[bool] = ContextVar("is_narrow", default=False)


def render(draw: Callable[[], Figure], *formats: str, narrow: bool = False) -> list[bytes]:
    """Return a figure in each format; equal figures give equal bytes.

    Args:
        draw: Draws it, once for all formats.
        formats: ``png`` or ``svg``.
        narrow: Whether it is for a page on a phone.
    """
    import matplotlib

    token = _is_narrow.set(narrow)
    try:
        with matplotlib.rc_context(cast(Any, _theme())):
            figure = draw()
            return [_saved(figure, file_format) for file_format in formats]
    finally:
        _is_narrow.reset(token)


def _saved(figure: Figure, file_format: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else None
    figure.savefig(buffer, format=file_format, dpi=160, metadata=metadata, bbox_inches="tight")
    return buffer.getvalue()


def on_dark(svg: bytes) -> bytes:
    """Return an SVG figure in the colours of a dark page."""
    text = svg.decode()
    for light, dark in _ON_DARK.items():
        text = text.replace(light, dark)
    return text.encode()


def _theme() -> dict[str, Any]:
    inked = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inked, _INK),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor"), _PAPER),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), _RULE),
        "grid.linewidth": 0.6,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "axes.titlesize": 10,
        "legend.frameon": False,
        "svg.hashsalt": "tamtctl",
        "text.parse_math": False,  # dollars in names begin no formula
    }


def panels(
    count: int, width: float = _PANEL[0], height: float = _PANEL[1], columns: int = 3
) -> tuple[Figure, Any]:
    """Return a figure and its ``count`` panels, up to ``columns`` a row; on a phone one a row."""
    from matplotlib.figure import Figure

    columns = 1 if _is_narrow.get() else min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend below all panels, with each label once."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    most = _NARROW_LEGEND if _is_narrow.get() else _WIDE_LEGEND if len(axes) > 1 else 3
    fitting = int(figure.get_figwidth() * _LETTERS) // max(map(len, found), default=1)
    columns = max(1, min(most, fitting, len(found)))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns)


def styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return method → colour and marker; tickets get those of the trained methods in turn."""
    methods = dict.fromkeys(one.method for one in comparison.subnetworks if one.method != DENSE)
    others = itertools.cycle(one.style for one in sweep_methods().values() if one.is_trained)
    found = {}
    for method in methods:
        known = known_method(method)
        colour, marker = known.style if known else next(others)
        found[method] = {"color": colour, "marker": marker}
    return found


def by_method(comparison: Comparison) -> dict[str, dict[Level, list[Subnetwork]]]:
    """Return method → level → the subnetworks that differ in their seed alone."""
    table: dict[str, dict[Level, list[Subnetwork]]] = {}
    for (method, level), group in comparison.groups.items():
        if method != DENSE:
            table.setdefault(method, {})[level] = group
    return table


def by_line(comparison: Comparison) -> dict[tuple[str, str], dict[float, list[Subnetwork]]]:
    """Return method and label → sparsity → subnetworks; each key is a line of the figure."""
    lines: dict[tuple[str, str], dict[float, list[Subnetwork]]] = {}
    for method, groups in by_method(comparison).items():
        for level, group in groups.items():
            label = group[0].label + (f" ({level.among})" if level.among else "")
            lines.setdefault((method, label), {})[level.sparsity] = group
    return lines


def error_bars(
    axes: Axes, x: Sequence[Any], spreads: Sequence[Spread], label: str, style: Mapping[str, Any]
) -> None:
    """Draw means, with their standard deviations where there are several seeds."""
    has_seeds = any(spread.std is not None for spread in spreads)
    bars = [spread.std or 0.0 for spread in spreads] if has_seeds else None
    means = [spread.mean for spread in spreads]
    axes.errorbar(x, means, bars, label=label, capsize=3, linewidth=1.5, markersize=5, **style)


def interval_bars(
    axes: Axes,
    points: Mapping[Any, Sequence[HeldOutLoss]],
    label: str,
    style: Mapping[str, Any],
) -> None:
    """Draw mean losses with their 95 % intervals over the text; seeds are small dots beside them.

    Args:
        axes: The panel.
        points: Position on the x axis → the losses there, one for each seed.
        label: The name in the legend.
        style: Colour and marker.
    """
    means = [mean_over_seeds(losses) for losses in points.values()]
    errors = [one.standard_error for one in means]
    bars = [_TWO_SIDED * (error or 0.0) for error in errors] if any(errors) else None
    axes.errorbar(
        list(points), [one.mean for one in means], bars,
        label=label, capsize=3, linewidth=1.5, markersize=5, **style,
    )  # fmt: skip
    seeds = [(x, one.mean) for x, losses in points.items() if losses[1:] for one in losses]
    if seeds:
        x, y = zip(*seeds, strict=True)
        axes.plot(x, y, ".", color=style["color"], markersize=3, alpha=0.6)


def dense_line(axes: Axes, height: float) -> None:
    """Draw the value of the dense model as a dashed line."""
    ink = axes.yaxis.label.get_color()
    axes.axhline(height, color=ink, linestyle="--", linewidth=1.2, label="dense")
