"""The loss of an objective on held-out text, block by block, and how sure its mean is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tamtctl.batches import Batch
from tamtctl.devices import Autocast
from tamtctl.objectives import Objective


@dataclass(frozen=True)
class HeldOutLoss:
    """One term of an objective on held-out text.

    Attributes:
        sums: Loss summed over the targets of each block, shape (blocks,).
        counts: Number of targets in each block, shape (blocks,).
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Loss per target, in nats for ``mlm``."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, blocks being the independent units (a ratio estimator)."""
        blocks = len(self.sums)
        if blocks < 2:
            return float("nan")
        residuals = self.sums - self.mean * self.counts
        return float(residuals.std(ddof=1) * np.sqrt(blocks) / self.counts.sum())


@torch.no_grad()
def held_out_losses(
    objective: Objective,
    batches: Iterable[Batch],
    forward_context: Autocast,
    device: torch.device,
) -> dict[str, HeldOutLoss]:
    """Return each term's loss of the model as it is now folded, without dropout."""
    sums: dict[str, list[NDArray[np.float64]]] = {}
    counts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in batches:
        rows, length = batch.input_ids.shape
        block_of = {
            "mlm": batch.masked.numpy() // length,  # (n,)
            "kd": np.arange(rows * length) // length,  # (B * T,)
        }
        with forward_context():
            terms = objective.terms(batch.to(device))
        for term, losses in terms.items():
            values = losses.double().cpu().numpy()
            total = np.bincount(block_of[term], values, rows).astype(np.float64)
            sums.setdefault(term, []).append(total)
            counts.setdefault(term, []).append(np.bincount(block_of[term], minlength=rows))
    return {
        term: HeldOutLoss(np.concatenate(sums[term]), np.concatenate(counts[term])) for term in sums
    }
