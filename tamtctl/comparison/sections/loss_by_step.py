"""Losses along the searches, and at which step mask training equals iterative pruning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tamtctl.comparison.found import Found, Picture
from tamtctl.comparison.intervals import too_few_sequences
from tamtctl.comparison.measures import upright_axis, words
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.rendering.plotting import panels, styles
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import Subnetwork, loss_over_seeds
from tamtctl.foundations.estimates import number_or_none
from tamtctl.pruning.methods import IMP
from tamtctl.pruning.objectives import TERMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CAPTIONS = {  # whether held-out losses are drawn → caption
    True: "Held-out loss along each mask training, one line per seed; the dotted line is what "
    "iterative magnitude pruning ends with.",
    False: "Training loss along each search, one line per seed: of mask training, and of the "
    "weights of iterative magnitude pruning, which start over after every cut; its run to a "
    "sparsity goes on from the one before.",
}
_Line = tuple[Subnetwork, dict[int, float]]  # step → loss


@dataclass(frozen=True)
class StepsToEqual:
    """The number of steps after which mask training equals iterative magnitude pruning.

    Attributes:
        method: The mask training.
        sparsity: The sparsity of both.
        seed: The seed of the mask training.
        term: The loss that mask training trains for.
        loss: The loss of iterative pruning, the mean over its seeds.
        imp_steps: The steps that iterative pruning took.
        steps: The first of ``--at-steps`` at which the loss was no higher than that; None if there
            is none. Steps before the first flip do not count, as the mask is still the initial one.
        why_none: Why the two cannot be compared, if so.
    """

    method: str
    sparsity: float
    seed: int | None
    term: str
    loss: float
    imp_steps: int
    steps: int | None
    why_none: str | None = None

    def __str__(self) -> str:
        at = f"{self.method} at {self.sparsity:g}, seed {self.seed}"
        if self.why_none:
            return f"{at}, and the steps that equal IMP: {self.why_none}"
        imp = f"the {words(self.term)} that IMP has after {self.imp_steps} ({self.loss:.3f})"
        if self.steps is None:
            return f"{at}: at none of the evaluated steps as good as {imp}"
        return f"{at}: {self.steps} steps reach {imp}"


@dataclass(frozen=True)
class LossesAlong(Found):
    """The losses during the searches.

    Attributes:
        comparison: The comparison, whose subnetworks have the logs of their searches.
        steps_to_equal: With ``--at-steps``, one for every mask training beside iterative pruning.
    """

    comparison: Comparison
    steps_to_equal: Sequence[StepsToEqual]

    def sentences(self) -> list[str]:
        """Return at which steps mask training equals iterative pruning."""
        return list(map(str, self.steps_to_equal))

    def picture(self) -> Picture | None:
        """Return a figure of held-out losses along the searches, else of training losses."""
        if not self._lines():
            return None
        return Picture(_CAPTIONS[bool(self.comparison.config.at_steps)], self._drawn)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "at_steps": [
                {"method": one.label, "sparsity": one.sparsity, "seed": one.seed, "step": step}
                | {f"{term}_loss": number_or_none(loss) for term, loss in losses.items()}
                for one in self.comparison.subnetworks
                for step, losses in one.along.items()
            ],
            "steps_to_equal": [asdict(one) for one in self.steps_to_equal],
        }

    def _drawn(self) -> Figure:
        measures, lines = self.comparison.measures, self._lines()
        order = sorted(lines, key=lambda key: (measures.index(key[1]), key[0]))
        figure, all_axes = panels(len(lines), columns=len({sparsity for sparsity, _ in lines}))
        for axes, (sparsity, term) in zip(all_axes, order, strict=True):
            self._draw(axes, lines[sparsity, term], sparsity, term)
        return figure

    def _lines(self) -> dict[tuple[float, str], list[_Line]]:
        """Return sparsity and term → the searches, each with the losses to draw.

        A search for a sum is drawn once for each of its terms.
        """
        lines: dict[tuple[float, str], list[_Line]] = {}
        for one in self.comparison.subnetworks:
            log = one.along if self.comparison.config.at_steps else one.training
            terms = (one.objective or "").split("+") if log else []
            for term in filter(self.comparison.measures.__contains__, terms):
                losses = {step: losses[term] for step, losses in log.items()}
                lines.setdefault((one.sparsity, term), []).append((one, losses))
        return lines

    def _draw(self, axes: Axes, lines: Sequence[_Line], sparsity: float, term: str) -> None:
        style, is_held_out = styles(self.comparison), bool(self.comparison.config.at_steps)
        for one, losses in lines:
            own = style[one.method] if is_held_out else {"color": style[one.method]["color"]}
            axes.plot(list(losses), list(losses.values()), label=one.label, linewidth=1.2, **own)
        rivals = self.comparison.groups.get((IMP, lines[0][0].level))
        if is_held_out and rivals:
            loss = loss_over_seeds(rivals, term).mean
            axes.axhline(loss, color=style[IMP]["color"], linestyle=":", label="IMP")
        axes.set(
            title=f"sparsity {sparsity:g}", xlabel="optimiser steps", ylabel=upright_axis(term)
        )
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))  # seeds share a label
        axes.legend(unique.values(), unique.keys())


def find(comparison: Comparison, opened: Opened) -> LossesAlong:
    """Return the losses along the searches of a sweep."""
    return LossesAlong(comparison, list(_steps_to_equal(comparison)))


def _steps_to_equal(comparison: Comparison) -> Iterator[StepsToEqual]:
    for (_, level), group in comparison.groups.items():
        rivals = comparison.groups.get((IMP, level))
        for one in group:
            term = one.objective
            if not (rivals and one.along and term is not None and term in TERMS):
                continue
            loss = float(np.mean([rival.losses[term].mean for rival in rivals]))
            good = [
                step
                for step, losses in one.along.items()
                if losses[term] <= loss and one.flipped.get(step) != 0
            ]
            why = too_few_sequences(one.losses[term])
            if one.is_unchanged:
                why = "none is told, for the mask is still the one it started from"
            steps = rivals[0].steps or 0
            first = None if why else min(good, default=None)
            yield StepsToEqual(one.label, level.sparsity, one.seed, term, loss, steps, first, why)
