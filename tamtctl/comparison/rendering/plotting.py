"""The figures of a comparison, drawn with matplotlib for light and for dark pages.

The colours are those of Okabe and Ito, which most colour-blind people can tell apart, and every
method has a marker of its own besides.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tamtctl.comparison.intervals import Spread
from tamtctl.comparison.levels import Level
from tamtctl.comparison.measures import axis
from tamtctl.comparison.subnetworks import DENSE, Subnetwork
from tamtctl.pruning.methods import IMP, ONE_SHOT, sweep_methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tamtctl.comparison.result import Comparison

Draw = Callable[[], "Figure"]

_ON_DARK = {"#0072B2": "#56B4E9"}  # a blue that can be seen on black
_LIGHT = ("#1f2328", "#ffffff", "#d0d7de")  # ink, paper, rules
_DARK = ("#e6edf3", "#0d1117", "#30363d")
_STEPS_CAPTION = {
    True: "Held-out loss along each mask training, one line per seed; the dotted line is what "
    "iterative magnitude pruning ends with.",
    False: "Training loss along each search, one line per seed: of mask training, and of the "
    "weights of iterative magnitude pruning, which start over after every cut; its run to a "
    "sparsity goes on from the one before.",
}
_PANEL = (4.6, 3.6)  # inches


def figures_of(comparison: Comparison) -> dict[str, tuple[str, Draw]]:
    """Return name → caption and how to draw it, of what there is to draw."""
    found: dict[str, tuple[str, Draw]] = {
        "loss": (
            "Held-out loss against sparsity, with the pre-trained head. Bars: standard deviation "
            "over seeds. The dashed line is the dense model.",
            lambda: _losses(comparison),
        )
    }
    if set(_by_method(comparison)) - set(ONE_SHOT):
        found["flips"] = (
            "Share of each layer's mask that differs from the magnitude mask of the same sparsity; "
            "“emb.” is what lies outside the layers. Bars: standard deviation over seeds.",
            lambda: _flips(comparison),
        )
    if any(one.training for one in comparison.subnetworks):
        found["steps"] = (
            _STEPS_CAPTION[bool(comparison.config.at_steps)],
            lambda: _steps(comparison),
        )
    if comparison.overlaps:
        found["similarity"] = (
            "Jaccard similarity of the kept weights, averaged over the matrices that both mask; "
            "two random masks have d / (2 − d) for a density d.",
            lambda: _similarity(comparison),
        )
    if comparison.config.tasks:
        found["score"] = (
            "Fine-tuned dev score against held-out loss, one point per subnetwork. In the title: "
            "their rank correlation over the methods within a sparsity, the mean over the "
            "sparsities, with the 95 % interval of a bootstrap over methods.",
            lambda: _scores(comparison),
        )
    return found


def render(draw: Draw, file_format: str, *, dark: bool = False) -> bytes:
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


def _panels(
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


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return method → colour and marker; tickets get those of the trained methods in turn."""
    import matplotlib

    is_dark = matplotlib.rcParams["figure.facecolor"] == _DARK[1]
    methods = dict.fromkeys(one.method for one in comparison.subnetworks if one.method != DENSE)
    known = sweep_methods()
    others = itertools.cycle(one.style for one in known.values() if one.is_trained)
    styles = {}
    for method in methods:
        colour, marker = known[method].style if method in known else next(others)
        styles[method] = {
            "color": _ON_DARK.get(colour, colour) if is_dark else colour,
            "marker": marker,
        }
    return styles


def _by_method(comparison: Comparison) -> dict[str, dict[Level, list[Subnetwork]]]:
    """Return method → level → the subnetworks that differ in their seed alone."""
    table: dict[str, dict[Level, list[Subnetwork]]] = {}
    for (method, level), group in comparison.groups.items():
        if method != DENSE:
            table.setdefault(method, {})[level] = group
    return table


def _by_line(comparison: Comparison) -> dict[tuple[str, str], dict[float, list[Subnetwork]]]:
    """Return method and label → sparsity → subnetworks: a line for each kind of level."""
    lines: dict[tuple[str, str], dict[float, list[Subnetwork]]] = {}
    for method, groups in _by_method(comparison).items():
        for level, group in groups.items():
            label = group[0].label + (f" ({level.among})" if level.among else "")
            lines.setdefault((method, label), {})[level.sparsity] = group
    return lines


def _losses(comparison: Comparison) -> Figure:
    figure, panels = _panels(len(comparison.measures))
    styles = _styles(comparison)
    dense = comparison.subnetworks[0]
    for axes, term in zip(panels, comparison.measures, strict=True):
        for (method, label), groups in _by_line(comparison).items():
            spreads = [comparison.spread(group, term) for group in groups.values()]
            _error_bars(axes, list(groups), spreads, label, styles[method])
        ink = axes.yaxis.label.get_color()
        axes.axhline(
            dense.losses[term].mean, color=ink, linestyle="--", linewidth=1.2, label="dense"
        )
        axes.set(xlabel="sparsity", ylabel=axis(term))
        axes.set_xticks(sorted({one.sparsity for one in comparison.subnetworks if one.ticket}))
    _legend(figure, panels[0], 6)
    return figure


def _error_bars(
    axes: Axes, x: Sequence[Any], spreads: Sequence[Spread], label: str, style: Mapping[str, Any]
) -> None:
    has_seeds = any(spread.std is not None for spread in spreads)
    bars = [spread.std or 0.0 for spread in spreads] if has_seeds else None
    means = [spread.mean for spread in spreads]
    axes.errorbar(x, means, bars, label=label, capsize=3, linewidth=1.5, markersize=5, **style)


def _dense_line(axes: Axes, height: float) -> None:
    ink = axes.yaxis.label.get_color()
    axes.axhline(height, color=ink, linestyle="--", linewidth=1.2, label="dense")


def _flips(comparison: Comparison) -> Figure:
    table = {m: g for m, g in _by_method(comparison).items() if m not in ONE_SHOT}
    levels = sorted({level for groups in table.values() for level in groups})
    figure, panels = _panels(len(levels))
    styles = _styles(comparison)
    for axes, level in zip(panels, levels, strict=True):
        for method, groups in table.items():
            if group := groups.get(level):
                layers = sorted(group[0].flips.keys() - {"all"}, key=_place)
                spreads = [Spread.of([100 * one.flips[n] for one in group]) for n in layers]
                names = ["emb." if layer == "outside" else layer for layer in layers]
                _error_bars(axes, names, spreads, group[0].label, styles[method])
        axes.set(
            title=f"sparsity {level}",
            xlabel="layer",
            ylabel="mask flipped (%)",
            ylim=(0, None),
        )
    _legend(figure, panels[0], 4)
    return figure


def _steps(comparison: Comparison) -> Figure:
    """Draw held-out losses along the searches if they were evaluated, else training losses."""
    is_held_out = bool(comparison.config.at_steps)
    lines: dict[tuple[float, str], list[tuple[Subnetwork, dict[int, float]]]] = {}
    for one in comparison.subnetworks:
        log = one.along if is_held_out else one.training
        term = one.objective
        if log and term in comparison.measures:
            losses = {step: losses[term] for step, losses in log.items()}
            lines.setdefault((one.sparsity, term), []).append((one, losses))
    order = sorted(lines, key=lambda key: (comparison.measures.index(key[1]), key[0]))
    figure, panels = _panels(len(lines), columns=len({sparsity for sparsity, _ in lines}))
    styles = _styles(comparison)
    for axes, (sparsity, term) in zip(panels, order, strict=True):
        for one, losses in lines[sparsity, term]:
            style = {"color": styles[one.method]["color"]}
            if is_held_out:
                style["marker"] = styles[one.method]["marker"]
            axes.plot(list(losses), list(losses.values()), label=one.label, linewidth=1.2, **style)
        rivals = comparison.groups.get((IMP, Level(sparsity)))
        if is_held_out and rivals:
            loss = comparison.spread(rivals, term).mean
            axes.axhline(loss, color=styles[IMP]["color"], linestyle=":", label="IMP")
        axes.set(title=f"sparsity {sparsity:g}", xlabel="optimiser steps", ylabel=axis(term))
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))  # seeds share a label
        axes.legend(unique.values(), unique.keys())
    return figure


def _place(layer: str) -> int:
    return -1 if layer == "outside" else int(layer)


def _similarity(comparison: Comparison) -> Figure:
    names = [name for one in comparison.overlaps for name in one.names]
    side = 0.6 + 0.07 * max(map(len, names))  # inches: of the labels
    side += 0.32 * max(len(one.names) for one in comparison.overlaps)
    figure, panels = _panels(len(comparison.overlaps), side, side, columns=2)
    for axes, one in zip(panels, comparison.overlaps, strict=True):
        grid = np.array(one.jaccard, np.float64)  # no number where two have no matrix in common
        image: Any = axes.imshow(grid, vmin=0, vmax=1, cmap="viridis")
        axes.grid(visible=False)
        axes.set_xticks(range(len(one.names)), one.names, rotation=60, ha="right", fontsize=7)
        axes.set_yticks(range(len(one.names)), one.names, fontsize=7)
        for (i, j), value in np.ndenumerate(grid):
            colour = "white" if value <= 0.55 else "black"
            axes.text(
                j,
                i,
                "–" if np.isnan(value) else f"{value:.2f}"[1:] if value < 1 else "1",
                ha="center",
                va="center",
                fontsize=6,
                color=colour,
            )
        if one.sparsity is not None:
            axes.set_title(f"sparsity {one.sparsity:g}")
    figure.colorbar(image, ax=list(panels), label="Jaccard similarity", shrink=0.6)
    return figure


def _scores(comparison: Comparison) -> Figure:
    pairs = [(task, term) for task in comparison.config.tasks for term in comparison.measures]
    figure, panels = _panels(len(pairs))
    styles = _styles(comparison)
    for axes, (task, term) in zip(panels, pairs, strict=True):
        for method, groups in _by_method(comparison).items():
            ones = [one for group in groups.values() for one in group]
            losses = [one.losses[term].mean for one in ones]
            spreads = [one.scores[task].scores for one in ones]
            _error_bars(
                axes, losses, spreads, ones[0].label, styles[method] | {"linestyle": "none"}
            )
        dense = comparison.subnetworks[0].scores[task]
        _dense_line(axes, dense.scores.mean)
        r = comparison.correlations[task][term].mean
        title = f"{task}: {r.value:.2f} {r.brackets}" if r else task
        axes.set(title=title, xlabel=axis(term), ylabel=dense.label)
    _legend(figure, panels[0], 6)
    return figure
