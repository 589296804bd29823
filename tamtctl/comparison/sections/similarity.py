"""The Jaccard similarity of every two masks, beside that of random masks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tamtctl.comparison.found import Found, Picture
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.rendering.plotting import WHITE, panels
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import Subnetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CAPTION = (
    "Jaccard similarity of the kept weights, averaged over the matrices that both mask; two random "
    "masks have d / (2 − d) for a density d."
)


@dataclass(frozen=True)
class Overlaps:
    """Jaccard similarities of the subnetworks of one sparsity.

    Attributes:
        sparsity: The sparsity of all of them; None if they are all tickets of a comparison.
        names: The name of each subnetwork, n of them.
        jaccard: The similarity of every two (n × n), averaged over the matrices that both mask;
            1 on the diagonal, None where no matrix is masked by both.
        chance: The similarity that random masks of the same densities would have (n × n).
    """

    sparsity: float | None
    names: list[str]
    jaccard: list[list[float | None]]
    chance: list[list[float | None]]

    @classmethod
    def of(cls, sparsity: float | None, subnetworks: Sequence[Subnetwork]) -> Overlaps:
        """Return the similarities of several subnetworks."""
        names = [one.name if sparsity else f"{one.name} {one.level}" for one in subnetworks]
        masks = [one.masks for one in subnetworks if one.masks]
        jaccard: list[list[float | None]] = [[None] * len(names) for _ in names]
        chance: list[list[float | None]] = [[None] * len(names) for _ in names]
        for i in range(len(masks)):
            jaccard[i][i] = chance[i][i] = 1.0
        for i, j in itertools.combinations(range(len(masks)), 2):
            if alike := masks[i].overlap(masks[j]):
                jaccard[i][j] = jaccard[j][i] = alike.jaccard
                chance[i][j] = chance[j][i] = alike.chance_jaccard
        return cls(sparsity, names, jaccard, chance)


@dataclass(frozen=True)
class Similarities(Found):
    """The similarities within each sparsity of a sweep, or of all tickets."""

    overlaps: Sequence[Overlaps]

    def picture(self) -> Picture | None:
        """Return a grid of squares for each sparsity, darker where two masks are less alike."""
        return Picture(_CAPTION, self._drawn) if self.overlaps else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"similarities": [vars(one) for one in self.overlaps]}

    def _drawn(self) -> Figure:
        names = [name for one in self.overlaps for name in one.names]
        side = 0.6 + 0.07 * max(map(len, names))  # inches for the labels
        side += 0.32 * max(len(one.names) for one in self.overlaps)
        figure, all_axes = panels(len(self.overlaps), side, side, columns=2)
        images = [_draw(axes, one) for axes, one in zip(all_axes, self.overlaps, strict=True)]
        figure.colorbar(images[-1], ax=list(all_axes), label="Jaccard similarity", shrink=0.6)
        return figure


def find(comparison: Comparison, opened: Opened) -> Similarities:
    """Return the similarities within each sparsity of a sweep, or of all tickets."""
    masked = [one for one in comparison.subnetworks if one.masks]
    sparsities: list[float | None] = [*sorted(comparison.config.sparsities)] or [None]
    groups = [
        (sparsity, [one for one in masked if sparsity in (None, one.sparsity)])
        for sparsity in sparsities
    ]
    return Similarities([Overlaps.of(sparsity, group) for sparsity, group in groups if group[1:]])


def _written(value: float) -> str:
    """Return a similarity in two digits, without the zero before the point; 1 only for equality."""
    return "1" if value == 1 else f"{min(value, 0.99):.2f}"[1:]


def _draw(axes: Axes, one: Overlaps) -> Any:
    """Draw the similarities of one sparsity, and return the image for a colour bar."""
    grid = np.array(one.jaccard, np.float64)  # NaN where two masks have no matrix in common
    image: Any = axes.imshow(grid, vmin=0, vmax=1, cmap="viridis")
    axes.grid(visible=False)
    axes.set_xticks(range(len(one.names)), one.names, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(one.names)), one.names, fontsize=7)
    for (i, j), value in np.ndenumerate(grid):
        text = "–" if np.isnan(value) else _written(value)
        colour = WHITE if value <= 0.55 else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=6, color=colour)
    if one.sparsity is not None:
        axes.set_title(f"sparsity {one.sparsity:g}")
    return image
