"""How far a score can travel in a training: whether its mask can change is known beforehand.

Kept scores start at `KEPT_SCORE`, pruned ones at 0. For a mask to change, a kept score must fall
below a pruned one, so that one of the two moves by half of the difference, at least.

A step of Adam moves a score by its learning rate times |m| / √v of its moments. While the gradient
stays the same that is 1. It is never more than what the Cauchy-Schwarz inequality gives for the two
averages, which weigh the same gradients by powers of β₁ and β₂:

    |m_t| / √v_t ≤ (1 − β₁) / √(1 − β₂) · √(Σ_{k<t} (β₁² / β₂)^k)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.trained.folded_weights import KEPT_SCORE
from tamtctl.training.loop import BETA1, BETA2, linear_decay

_ROUNDING = 1.05  # moments in bfloat16 may make a step that much longer


def warn_of_reach(config: SearchConfig, decay_steps: int) -> str | None:
    """Return the line that warns of a training whose steps are too small or too few, if it is one.

    Args:
        config: The configuration of a mask training.
        decay_steps: Steps until its learning rate is 0.
    """
    rates = np.array(
        [linear_decay(config.learning_rate, i, decay_steps) for i in range(config.steps)]
    )
    steady, most = step_sizes(config.steps, bias_correction=config.bias_correction)
    # Decay shrinks all scores alike, and with them the difference between kept and pruned ones.
    needed = KEPT_SCORE * float(np.prod(1 - np.minimum(rates * config.weight_decay, 1))) / 2
    usual, furthest = float(rates @ steady), float(rates @ most) * _ROUNDING
    if usual >= needed:
        return None
    can = "cannot" if furthest < needed else "will hardly"
    return (
        f"This training {can} change the mask: in {config.steps:,} steps at a learning rate of "
        f"{config.learning_rate:g} that falls, a score moves by about {usual:.2g}, and "
        f"{needed:.2g} is needed for a weight to change sides; give more --steps or a higher "
        "--learning-rate"
    )


def step_sizes(
    steps: int, *, bias_correction: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return |m| / √v of Adam at each step, under a steady gradient and at most, both (steps,)."""
    t = np.arange(1, steps + 1, dtype=np.float64)
    correction = np.sqrt(1 - BETA2**t) / (1 - BETA1**t)
    ratio = BETA1**2 / BETA2
    most = (1 - BETA1) / np.sqrt(1 - BETA2) * np.sqrt((1 - ratio**t) / (1 - ratio))
    if bias_correction:
        return np.ones(steps), most * correction
    return 1 / correction, most
