"""Where trained masks differ from the magnitude mask of the same sparsity, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamtctl.comparison.found import Found, Picture
from tamtctl.comparison.intervals import Spread
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.rendering.plotting import by_method, error_bars, legend, panels, styles
from tamtctl.comparison.result import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTION = (
    "Share of each layer's mask that differs from the magnitude mask of the same sparsity; “emb.” "
    "is what lies outside the layers. Bars: standard deviation over seeds."
)
_OUTSIDE = "outside"  # the name of matrices outside the layers


@dataclass(frozen=True)
class Flips(Found):
    """The flips of trained masks and tickets."""

    comparison: Comparison

    def picture(self) -> Picture:
        """Return the flips by layer, a panel for each level."""
        return Picture(_CAPTION, self._drawn)

    def _drawn(self) -> Figure:
        table = {
            method: groups
            for method, groups in by_method(self.comparison).items()
            if (one := next(iter(groups.values()))[0]).masks and not one.is_one_shot
        }
        levels = sorted({level for groups in table.values() for level in groups})
        figure, all_axes = panels(len(levels))
        style = styles(self.comparison)
        for axes, level in zip(all_axes, levels, strict=True):
            for method, groups in table.items():
                if group := groups.get(level):
                    layers = sorted(group[0].flips.keys() - {"all"}, key=_place)
                    spreads = [Spread.of([100 * one.flips[n] for one in group]) for n in layers]
                    names = ["emb." if layer == _OUTSIDE else layer for layer in layers]
                    error_bars(axes, names, spreads, group[0].label, style[method])
            axes.set(title=f"sparsity {level}", xlabel="layer", ylabel="mask flipped (%)")
            axes.set_ylim(0, 1.04 * axes.get_ylim()[1])  # from nothing, with room for the markers
        legend(figure, all_axes)
        return figure


def find(comparison: Comparison, opened: Opened) -> Flips | None:
    """Return the flips; None if all masks are one-shot."""
    is_there = any(one.masks and not one.is_one_shot for one in comparison.subnetworks)
    return Flips(comparison) if is_there else None


def _place(layer: str) -> int:
    return -1 if layer == _OUTSIDE else int(layer)
