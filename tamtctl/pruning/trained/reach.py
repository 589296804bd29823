"""The reach of a training: how far a score can move, and so whether the mask can change at all.

For a mask to change, a kept score must fall below a pruned one, so that one of the two moves by at
least half of the difference. With two-valued scores all differences are `KEPT_SCORE`. In nats the
smallest difference counts, which in a large matrix is nearly 0; there the number of weights near
the threshold says whether a training can do much.

A step of Adam moves a score by its learning rate times |m| / √v of its moments. Under a constant
gradient this is 1. Both moments are averages of the same gradients, weighted by powers of β₁ and
β₂, so that the Cauchy-Schwarz inequality bounds it:

    |m_t| / √v_t ≤ (1 − β₁) / √(1 − β₂) · √(Σ_{k<t} (β₁² / β₂)^k)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.trained.initial_scores import KEPT_SCORE
from tamtctl.training.optimizer import BETA1, BETA2
from tamtctl.training.schedules import linear_decay

_ROUNDING = 1.05  # moments in bfloat16 may make a step longer by this factor
_FEW = 0.01  # share of the weights; a smaller share within reach gets a warning


def warn_of_reach(
    config: SearchConfig, decay_steps: int, scores: Mapping[str, Tensor] | None = None
) -> str | None:
    """Return a warning if the steps of a mask training are too small or too few, else None.

    Args:
        config: The configuration of a mask training.
        decay_steps: Steps until its learning rate is 0.
        scores: Name → initial scores in nats; None: two values.
    """
    rates = np.array(
        [linear_decay(config.learning_rate, i, decay_steps) for i in range(config.steps)]
    )
    steady, most = step_sizes(config.steps, bias_correction=config.bias_correction)
    # Weight decay shrinks all scores by one factor, and so the differences between them.
    left = float(np.prod(1 - np.minimum(rates * config.weight_decay, 1)))
    usual, furthest = float(rates @ steady), float(rates @ most) * _ROUNDING
    unit = "" if scores is None else " nats"
    begins = (
        f"in {config.steps:,} steps at a learning rate of {config.learning_rate:g} that falls, a "
        f"score moves by about {usual:.2g}{unit}"
    )
    ends = "; give more --steps or a higher --learning-rate"
    needed = left * (KEPT_SCORE if scores is None else _smallest_difference(scores)) / 2
    if usual < needed:
        can = "cannot" if furthest < needed else "will hardly"
        return (
            f"This training {can} change the mask: {begins}, and {needed:.2g} is needed for a "
            f"weight to change sides{ends}"
        )
    if scores is not None and (share := _share_within(scores, usual / left)) < _FEW:
        return (
            f"This training can change little of the mask: {begins}, and {share:.2g} of the "
            f"weights are that near to the threshold{ends}"
        )
    return None


def _smallest_difference(scores: Mapping[str, Tensor]) -> float:
    """Return the smallest difference of a kept score (above 0) and a pruned one of its matrix."""
    differences = (
        float(one[one > 0].min() - one[one < 0].max())
        for one in scores.values()
        if (one > 0).any() and (one < 0).any()
    )
    return min(differences, default=0.0)


def _share_within(scores: Mapping[str, Tensor], distance: float) -> float:
    near = sum(int((one.abs() <= distance).sum()) for one in scores.values())
    return near / sum(one.numel() for one in scores.values())


def step_sizes(
    steps: int, *, bias_correction: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return |m| / √v of Adam at each step: for a constant gradient, and at most; both (steps,)."""
    t = np.arange(1, steps + 1, dtype=np.float64)
    correction = np.sqrt(1 - BETA2**t) / (1 - BETA1**t)
    ratio = BETA1**2 / BETA2
    most = (1 - BETA1) / np.sqrt(1 - BETA2) * np.sqrt((1 - ratio**t) / (1 - ratio))
    if bias_correction:
        return np.ones(steps), most * correction
    return 1 / correction, most
