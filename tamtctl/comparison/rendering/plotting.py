"""What the figures of a comparison have in common: panels, colours, bars; for light and dark pages.

The colours are those of Okabe and Ito, which most colour-blind people can tell apart, and every
method has a marker of its own besides.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tamtctl.comparison.intervals import Spread
from tamtctl.comparison.levels import Level
from tamtctl.comparison.subnetworks import DENSE, Subnetwork
from tamtctl.pruning.methods import known_method, sweep_methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tamtctl.comparison.result import Comparison

_ON_DARK = {"#0072B2": "#56B4E9"}  # a blue that can be seen on black
_LIGHT = ("#1f2328", "#ffffff", "#d0d7de")  # ink, paper, rules
_DARK = ("#e6edf3", "#0d1117", "#30363d")
_PANEL = (4.6, 3.6)  # inches


def render(draw: Callable[[], Figure], file_format: str, *, dark: bool = False) -> bytes:
    """Return a figure as PNG or SVG; the same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context(cast(Any, _theme(dark))):
        figure = draw()
        buffer = io.BytesIO()
        metadata = {"Date": None} if file_format == "svg" else None
        figure.savefig(buffer, format=file_format, dpi=160, metadata=metadata, bbox_inches="tight")
    return buffer.getvalue()


def _theme(dark: bool) -> dict[str, Any]:
    ink, paper, rule = _DARK if dark else _LIGHT
    inked = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inked, ink),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor"), paper),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), rule),
        "grid.linewidth": 0.6,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "axes.titlesize": 10,
        "legend.frameon": False,
        "svg.hashsalt": "tamtctl",
        "text.parse_math": False,  # what a name has between dollars is no formula
    }


def panels(
    count: int, width: float = _PANEL[0], height: float = _PANEL[1], columns: int = 3
) -> tuple[Figure, Any]:
    """Return a figure with so many panels, side by side, then in rows."""
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Put the labels of one panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return method → colour and marker; tickets get those of the trained methods in turn."""
    import matplotlib

    is_dark = matplotlib.rcParams["figure.facecolor"] == _DARK[1]
    methods = dict.fromkeys(one.method for one in comparison.subnetworks if one.method != DENSE)
    others = itertools.cycle(one.style for one in sweep_methods().values() if one.is_trained)
    found = {}
    for method in methods:
        known = known_method(method)
        colour, marker = known.style if known else next(others)
        found[method] = {
            "color": _ON_DARK.get(colour, colour) if is_dark else colour,
            "marker": marker,
        }
    return found


def by_method(comparison: Comparison) -> dict[str, dict[Level, list[Subnetwork]]]:
    """Return method → level → the subnetworks that differ in their seed alone."""
    table: dict[str, dict[Level, list[Subnetwork]]] = {}
    for (method, level), group in comparison.groups.items():
        if method != DENSE:
            table.setdefault(method, {})[level] = group
    return table


def by_line(comparison: Comparison) -> dict[tuple[str, str], dict[float, list[Subnetwork]]]:
    """Return method and label → sparsity → subnetworks: a line for each kind of level."""
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


def dense_line(axes: Axes, height: float) -> None:
    """Draw what the dense model has, as a dashed line."""
    ink = axes.yaxis.label.get_color()
    axes.axhline(height, color=ink, linestyle="--", linewidth=1.2, label="dense")
