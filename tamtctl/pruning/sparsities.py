"""Sparsities: which numbers are valid, and which ones iterative pruning passes on its way."""

from __future__ import annotations

from tamtctl.foundations.errors import UsageError

SPARSITY_NEEDED = "--sparsity is needed, for example --sparsity 0.8"
ONE_TARGET = "--sparsity and --latency both say how much is pruned; give one of them"


def check_sparsity(value: float) -> None:
    """Raise UsageError unless ``value`` is a sparsity: a share of zeros in [0, 1)."""
    if not (isinstance(value, float | int) and 0 <= value < 1):  # a NaN fails the comparison
        hint = f"; did you mean {value / 100:g}?" if 5 <= value < 100 else ""  # in per cent
        raise UsageError(f"--sparsity must be at least 0 and below 1, got {value:g}{hint}")


def cut_sparsities(sparsity: float) -> tuple[float, ...]:
    """Return the sparsity after each cut of iterative magnitude pruning: 0.1, 0.2, … ``sparsity``.

    Every cut prunes a tenth of the original weights; the last one prunes the rest.
    """
    tenths = (count / 10 for count in range(1, 10))
    return (*(tenth for tenth in tenths if tenth < sparsity), sparsity)


def imp_steps(sparsity: float, prune_every: int) -> int:
    """Return the steps that iterative magnitude pruning needs: the first cut precedes training."""
    return (len(cut_sparsities(sparsity)) - 1) * prune_every
