"""Learning rates that change from step to step."""

from __future__ import annotations


def linear_decay(peak: float, step: int, steps: int) -> float:
    """Return the learning rate of a step (from 0): linear from the peak to 0, no warm-up."""
    return peak * max(0.0, 1 - step / steps)


def warmed_up(peak: float, step: int, steps: int, warm_up_steps: int) -> float:
    """Return the learning rate of a step (from 0): rising linearly to the peak, then falling to 0.

    Without warm-up steps it equals `linear_decay`.
    """
    if step < warm_up_steps:
        return peak * (step + 1) / warm_up_steps
    return linear_decay(peak, step - warm_up_steps, steps - warm_up_steps)
