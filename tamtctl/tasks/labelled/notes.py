"""Notes on a task's examples, to be read before a metric is believed, a line each.

A note never stops a run. Notes on the labels come from the kind of the task.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tamtctl.data.padded_batches import Features
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES
from tamtctl.tasks.task import Task


def few_note(task: Task, examples: Examples, where: str) -> list[str]:
    """Return a note if there are too few examples for a standard error."""
    kind = kind_of(task)
    if (units := kind.units(examples)) >= MIN_EXAMPLES:
        return []
    return [
        f"too few {where} {kind.drawn} ({units}) to tell: at least {MIN_EXAMPLES} are needed "
        "for a standard error"
    ]


def overlap_notes(task: Task, train: Examples, dev: Examples) -> list[str]:
    """Return notes on dev examples whose texts, or one of them, are in the training set, too."""
    seen = set(zip(*train.texts, strict=True))
    whole = sum(row in seen for row in zip(*dev.texts, strict=True))
    kept_together = kind_of(task).kept_together
    known = set(itertools.chain.from_iterable(kept_together(train.texts)))
    partly = -whole + sum(
        not known.isdisjoint(row) for row in zip(*kept_together(dev.texts), strict=True)
    )
    found = {
        "are among those to train on, too: the scores are not of unseen text": whole,
        "share a text with some to train on: the scores are not of unseen text alone": partly,
    }
    return [
        f"{'all' if count == len(dev) else f'{count:,} of the'} {len(dev):,} dev examples {what}"
        for what, count in found.items()
        if count > 0
    ]


def cut_notes(
    task: Task, parts: Sequence[Features], limits: tuple[int, int], advice: str
) -> list[str]:
    """Return a note on texts that are too long and are cut.

    Args:
        task: Its kind may have a note of its own.
        parts: The inputs of the model.
        limits: Tokens of a text that are read, and the most that the model can take.
        advice: How to read more tokens, with ``{}`` for their number.
    """
    cut = sum(features.cut for features in parts)
    if not cut:
        return []
    total = sum(map(len, parts))
    length, most = limits
    enough = min(2 ** (max(features.longest for features in parts) - 1).bit_length(), most)
    more = advice.format(enough) if enough > length else "the model cannot take more"
    if own := kind_of(task).cut_note(parts, more):
        return [own]
    return [
        f"{_percent(cut, total)} of the texts ({cut:,} of {total:,}) are longer than {length} "
        f"tokens and are cut; {more}"
    ]


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    if part == whole or 1 <= share < 99:
        return f"{share:.0f} %"
    return f"{share:.2g} %" if share < 1 else f"{math.floor(10 * share) / 10:.1f} %"
