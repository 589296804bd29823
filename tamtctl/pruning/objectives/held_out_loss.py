"""The loss of an objective on held-out text, unit by unit, and the standard error of its mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tamtctl.data.batch import Batch
from tamtctl.data.batches import evaluation_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Sequences
from tamtctl.foundations.devices import Autocast
from tamtctl.foundations.errors import CorpusError, DivergedError
from tamtctl.foundations.measured_text import MIN_SEQUENCES, MeasuredText
from tamtctl.pruning.objectives import TERMS, Terms
from tamtctl.pruning.objectives.objective import Objective


@dataclass(frozen=True)
class HeldOutLoss:
    """One term of an objective on held-out text.

    A unit is a row; or, where a term compares rows with each other, a batch of rows, as what
    happens to one row then moves the losses of all.

    Attributes:
        sums: Loss summed over the targets of each unit, shape (units,).
        counts: Number of targets in each unit, shape (units,); 0 in a short row without any.
        group_size: Rows in a unit; the last one may have fewer.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]
    group_size: int = 1

    @property
    def mean(self) -> float:
        """Loss per target, in the unit of the term."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean over independent units (a ratio estimator).

        None if there are fewer than `MIN_SEQUENCES` units with targets.
        """
        return total_error([self])

    @property
    def units_with_targets(self) -> int:
        """Units with targets, which alone tell something of the loss."""
        return int(np.count_nonzero(self.counts))

    @property
    def residuals(self) -> NDArray[np.float64]:
        """By how much each unit moves the mean, shape (units,)."""
        moved: NDArray[np.float64] = (self.sums - self.mean * self.counts) / self.counts.sum()
        return moved

    def of_nothing(self) -> HeldOutLoss:
        """Return the loss 0 on the same targets: the dense model's distance to itself."""
        return replace(self, sums=np.zeros_like(self.sums))


def total_loss(losses: Iterable[HeldOutLoss]) -> float:
    """Return the sum of the means of losses, each in the unit of its term."""
    return math.fsum(loss.mean for loss in losses)


def total_error(losses: Iterable[HeldOutLoss]) -> float | None:
    """Return the standard error of a sum of losses of the same units, which move together.

    None if there are fewer than `MIN_SEQUENCES` units with targets.
    """
    losses = list(losses)
    if min(loss.units_with_targets for loss in losses) < MIN_SEQUENCES:
        return None
    moved = np.sum([loss.residuals for loss in losses], axis=0)
    return float(moved.std(ddof=1) * np.sqrt(len(moved)))


def check_compared(text: MeasuredText, terms: Terms) -> None:
    """Make sure that terms which compare the rows of a text have two, before any work.

    Args:
        text: The text, and how many rows of it are measured.
        terms: The terms of the objective.

    Raises:
        CorpusError: There is but one row.
    """
    if terms.compare_rows and text.sequences < 2:
        name = next(term.name for term in terms if term.compares_rows)
        raise CorpusError(
            f"{name} compares the rows of the held-out text with each other, and of {text.name} "
            "there is but one; give more text"
        )


def check_targets(rows: Sequences, *, noise: Noise | None, limit: int | None, text: str) -> None:
    """Make sure that the held-out text has targets, before any work.

    Args:
        rows: The held-out text.
        noise: Noise of masked language modelling; None for clean text, where every token is a
            target.
        limit: Most rows to measure, as in `tamtctl.data.batches.evaluation_batches`.
        text: The user's name for the text.

    Raises:
        CorpusError: None of its tokens is masked.
    """
    if noise is None:
        return
    batches = evaluation_batches(rows, 16, noise=noise, limit=limit)
    if not any(batch.masked.numel() for batch in batches):
        raise CorpusError(
            f"none of the held-out tokens of {text} is masked, so that there is no loss to take: "
            "they are too few, or unknown to the model; give more text, or longer sequences"
        )


@torch.no_grad()
def held_out_losses(
    objective: Objective,
    batches: Iterable[Batch],
    forward_context: Autocast,
    device: torch.device,
) -> dict[str, HeldOutLoss]:
    """Return term → held-out loss of the model with the weights that are folded in now.

    Raises:
        CorpusError: A term compares rows, and the text has only one.
        DivergedError: A loss is infinite or NaN.
    """
    sums: dict[str, list[NDArray[np.float64]]] = {}
    counts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in batches:
        rows = len(batch.input_ids)
        row_of = {term: of.numpy() for term, of in objective.blocks(batch).items()}
        with forward_context():
            terms = objective.terms(batch.to(device))
        for term, losses in terms.items():
            values = losses.cpu().double().numpy()
            if not np.isfinite(values).all():
                raise DivergedError(
                    f"the {term} loss of the held-out text is infinite or no number; try a lower "
                    "--learning-rate, or --precision fp32"
                )
            total = np.bincount(row_of[term], values, rows).astype(np.float64)
            of_row = np.bincount(row_of[term], minlength=rows)
            is_alone = rows == 1 and TERMS[term].compares_rows  # no row to compare it with
            sums.setdefault(term, []).append(0 * total if is_alone else total)
            counts.setdefault(term, []).append(0 * of_row if is_alone else of_row)
    for term, of_rows in counts.items():
        if TERMS[term].compares_rows and not any(of.any() for of in of_rows):
            raise CorpusError(f"{term} compares rows of the held-out text, and it has but one")
    return {term: _of_units(sums[term], counts[term], objective.group_size) for term in sums}


def _of_units(
    sums: Sequence[NDArray[np.float64]], counts: Sequence[NDArray[np.int64]], group_size: int
) -> HeldOutLoss:
    """Return the loss of units: of rows, or of batches if their rows are compared."""
    if group_size > 1:
        sums, counts = ([one.sum(keepdims=True) for one in those] for those in (sums, counts))
    return HeldOutLoss(np.concatenate(sums), np.concatenate(counts), group_size)


def no_losses(objective: Objective, batches: Iterable[Batch]) -> dict[str, HeldOutLoss]:
    """Return term → a loss of 0 on its targets, without running the model."""
    counts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in batches:
        for term, rows in objective.blocks(batch).items():
            counts.setdefault(term, []).append(
                np.bincount(rows.numpy(), minlength=len(batch.input_ids))
            )
    return {
        term: _of_units([np.zeros(len(one)) for one in those], those, objective.group_size)
        for term, those in counts.items()
    }
