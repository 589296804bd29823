"""Words and numbers that several views write alike."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path

from tamtctl.foundations.counts import count
from tamtctl.pruning.criteria import REFERENCE, baselines


def error_text(error: float | None, digits: int) -> str:
    """Return a standard error, or a dash where there is none."""
    return "–" if error is None or math.isnan(error) else f"{error:.{digits}f}"


def typed(path: Path | str) -> str:
    """Return a path as it is typed in a shell, quoted if its name has a space."""
    return shlex.quote(str(path))


def place(device: str, precision: str, processes: int, threads: int) -> str:
    """Return where something is computed, and in which precision."""
    # Needs torch, which the help must not load.
    from tamtctl.foundations.devices import precision_hint

    together = f"{count(processes, 'process', 'processes')} × " if processes > 1 else ""
    where = f"{device}, {precision}" + precision_hint(device, precision)
    return f"{where}, {together}{count(threads, 'thread')}"


def sentence(clause: str) -> str:
    """Return a clause as a sentence."""
    return f"{clause[0].upper()}{clause[1:]}."


def tokens(count: int) -> str:
    """Return a number of tokens; large ones in thousands or millions."""
    if count < 1000:
        return str(count)
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def parts_text(sparsities: Mapping[str, float]) -> str:
    """Return the sparsity of each part of a model in a phrase."""
    return ", ".join(f"{part} {sparsity:.4g}" for part, sparsity in sparsities.items())


def unsure_gap(
    losses: Mapping[str, float], errors: Mapping[str, float | None], name: str, called: str, by: str
) -> str | None:
    """Return a sentence if a gap to dense is too small to say how much of it is closed, else None.

    Args:
        losses: Name → loss.
        errors: Name → standard error of these losses, as far as it is known.
        name: The name from whose loss the gap goes to that of dense.
        called: What to call it in the sentence.
        by: What closes the gap, and the verb.
    """
    found = [errors.get(one) for one in ("dense", name)]
    unsure = max((error for error in found if error is not None), default=0.0)
    if not 0 < losses[name] - losses["dense"] < unsure:
        return None
    return (
        f"The gap from {called} to dense is smaller than the standard error of these losses: how "
        f"much of it {by} cannot be told."
    )


def gap_closed(losses: Mapping[str, float], errors: Mapping[str, float | None]) -> str | None:
    """Return a sentence on how much of the gap from the best baseline to dense a ticket closes.

    None if there is no such gap. The best baseline is the magnitude mask, except with patterns for
    which a random mask has a lower loss.

    Args:
        losses: Name → loss; None is returned without ``dense``, ``magnitude`` and ``ticket``.
        errors: Name → standard error of these losses, as far as it is known.
    """
    if not {"dense", REFERENCE, "ticket"} <= losses.keys():
        return None
    best = min((row.name for row in baselines() if row.name in losses), key=losses.__getitem__)
    if unsure := unsure_gap(losses, errors, best, best, "the ticket closes"):
        return unsure
    gap = losses[best] - losses["dense"]
    if gap <= 0:
        return None
    if losses["ticket"] < losses["dense"]:
        return (
            "The ticket's loss is below that of the dense model: the mask has learnt the text, and "
            "how much of the gap it closes says nothing of other text. A sweep by compare adds the "
            "dense model after as many steps of ordinary training, which is the ceiling."
        )
    closed = (losses[best] - losses["ticket"]) / gap
    better = "" if best == REFERENCE else f"; here a {best} mask is better than {REFERENCE}"
    return f"The ticket closes {closed:.0%} of the gap from {best} to dense{better}."
