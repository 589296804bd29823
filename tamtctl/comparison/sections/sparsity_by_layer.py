"""Where the zeros are: the sparsity of embeddings, of layers, and of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamtctl.comparison.found import Found, Picture, Table
from tamtctl.comparison.levels import Level
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.rendering.plotting import by_method, legend, panels, styles
from tamtctl.comparison.result import Comparison
from tamtctl.ticket.matrix_places import layer_of, shares_by
from tamtctl.ticket.packed_masks import PackedMasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTION = (
    "Share of zeros in each layer of the masks of the first seed; “emb.” is what lies outside the "
    "layers."
)
_OUTSIDE = "-"
_ALIKE = 0.005  # sparsities that differ by less look alike in a figure


@dataclass(frozen=True)
class LayerSparsities(Found):
    """The sparsities of every method's mask.

    Attributes:
        comparison: The comparison.
        embeddings: Names of the embedding matrices.
    """

    comparison: Comparison
    embeddings: frozenset[str]

    def table(self) -> Table:
        """Return the sparsities; methods of a level with the same ones share a row."""
        rows: dict[tuple[str, ...], list[str]] = {}
        for method, level, masks in self._masks():
            parts = (
                masks.packed.keys() & self.embeddings,
                masks.packed.keys() - self.embeddings,
                masks.packed.keys(),
            )
            shown = tuple(_percent(_sparsity(masks, sorted(names))) for names in parts)
            rows.setdefault((str(level), *shown), []).append(method)
        heading = ["sparsity", "methods", "embeddings", "layers", "all that is masked"]
        return Table(
            heading,
            [[level, ", ".join(names), *shown] for (level, *shown), names in rows.items()],
            words=2,
        )

    def preface(self) -> list[str]:
        """Return why there is no figure, if all layers have the same sparsity."""
        alike = sorted({level for _, level, _ in self._masks()} - set(self._uneven()))
        if not alike:
            return []
        where = ", ".join(map(str, alike))
        return [
            f"At sparsity {where}, each mask has as many zeros in one layer as in another, within "
            "half a percent: there is no figure of that."
        ]

    def picture(self) -> Picture | None:
        """Return the sparsities by layer, a panel for each level at which they differ."""
        return Picture(_CAPTION, self._drawn) if self._uneven() else None

    def _uneven(self) -> list[Level]:
        """Return the levels at which the layers of a mask differ in sparsity."""
        shares = [(level, _by_layer(masks).values()) for _, level, masks in self._masks()]
        return sorted({level for level, of in shares if max(of) - min(of) > _ALIKE})

    def _masks(self) -> Sequence[tuple[str, Level, PackedMasks]]:
        """Return label, level and mask of every method, with its first seed."""
        return [
            (group[0].label, level, group[0].masks)
            for groups in by_method(self.comparison).values()
            for level, group in groups.items()
            if group[0].masks
        ]

    def _drawn(self) -> Figure:
        levels = self._uneven()
        figure, all_axes = panels(len(levels))
        style = styles(self.comparison)
        of_label = {one.label: style[one.method] for one in self.comparison.subnetworks[1:]}
        for axes, level in zip(all_axes, levels, strict=True):
            for label, own, masks in self._masks():
                if own == level:
                    layers = _by_layer(masks)
                    names = ["emb." if layer == _OUTSIDE else layer for layer in layers]
                    shares = [100 * share for share in layers.values()]
                    axes.plot(names, shares, label=label, linewidth=1.2, **of_label[label])
            axes.set(title=f"sparsity {level}", xlabel="layer", ylabel="zeros (%)", ylim=(0, 100))
        legend(figure, all_axes)
        return figure


def find(comparison: Comparison, opened: Opened) -> LayerSparsities | None:
    """Return where the zeros of the masks are."""
    is_there = any(one.masks for one in comparison.subnetworks)
    return LayerSparsities(comparison, opened.bench.text.encoder.embeddings) if is_there else None


def _by_layer(masks: PackedMasks) -> Mapping[str, float]:
    """Return layer → share of zeros; matrices outside the layers come first."""
    sizes = {name: math.prod(shape) for name, shape in masks.shapes.items()}
    zeros = {name: sizes[name] - masks.kept[name] for name in masks.packed}
    return shares_by(layer_of, zeros, sizes)


def _sparsity(masks: PackedMasks, names: Sequence[str]) -> float | None:
    """Return the share of zeros in the named matrices, None without any."""
    total = sum(math.prod(masks.shapes[name]) for name in names)
    return 1 - sum(masks.kept[name] for name in names) / total if total else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
