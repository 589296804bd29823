"""The loss of an objective on held-out text, row by row, and the standard error of its mean."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tamtctl.data.batch import Batch
from tamtctl.data.batches import evaluation_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Sequences
from tamtctl.foundations.devices import Autocast
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.loss_units import MIN_SEQUENCES
from tamtctl.pruning.objectives import TERMS
from tamtctl.pruning.objectives.objective import Objective

__all__ = [
    "MIN_SEQUENCES",
    "HeldOutLoss",
    "check_targets",
    "held_out_losses",
    "no_losses",
    "total_error",
    "total_loss",
]


@dataclass(frozen=True)
class HeldOutLoss:
    """One term of an objective on held-out text.

    Attributes:
        sums: Loss summed over the targets of each row, shape (rows,).
        counts: Number of targets in each row, shape (rows,); 0 in a short row without any.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Loss per target, in the unit of the term."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean, rows being the independent units (a ratio estimator).

        None if there are fewer than `MIN_SEQUENCES` rows.
        """
        rows = len(self.sums)
        if rows < MIN_SEQUENCES:
            return None
        residuals = self.sums - self.mean * self.counts
        return float(residuals.std(ddof=1) * np.sqrt(rows) / self.counts.sum())

    def of_nothing(self) -> HeldOutLoss:
        """Return the loss 0 on the same targets: the dense model's distance to itself."""
        return HeldOutLoss(np.zeros_like(self.sums), self.counts)


def total_loss(losses: Iterable[HeldOutLoss]) -> float:
    """Return the sum of the means of losses, each in the unit of its term."""
    return math.fsum(loss.mean for loss in losses)


def total_error(losses: Iterable[HeldOutLoss]) -> float | None:
    """Return the standard error of a sum of losses; None if one of them has none."""
    errors = [loss.standard_error for loss in losses]
    known = [error for error in errors if error is not None]
    return math.hypot(*known) if len(known) == len(errors) else None


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
    """
    sums: dict[str, list[NDArray[np.float64]]] = {}
    counts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in batches:
        rows = len(batch.input_ids)
        row_of = {term: of.numpy() for term, of in objective.blocks(batch).items()}
        with forward_context():
            terms = objective.terms(batch.to(device))
        for term, losses in terms.items():
            values = losses.double().cpu().numpy()
            total = np.bincount(row_of[term], values, rows).astype(np.float64)
            of_row = np.bincount(row_of[term], minlength=rows)
            is_alone = rows == 1 and TERMS[term].compares_rows  # no row to compare it with
            sums.setdefault(term, []).append(0 * total if is_alone else total)
            counts.setdefault(term, []).append(0 * of_row if is_alone else of_row)
    for term, of_rows in counts.items():
        if TERMS[term].compares_rows and not any(of.any() for of in of_rows):
            raise CorpusError(f"{term} compares rows of the held-out text, and it has but one")
    return {
        term: HeldOutLoss(np.concatenate(sums[term]), np.concatenate(counts[term])) for term in sums
    }


def no_losses(objective: Objective, batches: Iterable[Batch]) -> dict[str, HeldOutLoss]:
    """Return term → a loss of 0 on its targets, without running the model."""
    counts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in batches:
        for term, rows in objective.blocks(batch).items():
            counts.setdefault(term, []).append(
                np.bincount(rows.numpy(), minlength=len(batch.input_ids))
            )
    together = {term: np.concatenate(those) for term, those in counts.items()}
    return {
        term: HeldOutLoss(np.zeros(len(those), np.float64), those)
        for term, those in together.items()
    }
