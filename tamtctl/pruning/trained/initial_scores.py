"""The initial scores of a mask training.

*Two values* are the paper's: a kept weight starts at 0.02, a pruned one at 0 (TAMT, appendix A).
They forget how near a weight was to the threshold, so that noise decides which one changes sides
first.

*In nats*, a score is the logarithm of the importance c that a criterion gives to its weight,

    S₀ = log c − log τ

where τ is the threshold of the matrix, or of the output row if the criterion compares within rows:
halfway, in logarithms, between the least important weight that is kept and the most important one
that is pruned. So the initial mask is exactly S₀ > 0. A weight of importance 0 counts as the
smallest positive importance in its matrix.

Scores are not clamped. A step moves a score by about the learning rate at most, so that a score
beyond the reach of a training never changes sides, however far away it is. But the spread of the
scores matters. For nano at sparsity 0.8, after 120 steps at a rate of 0.03 (a reach of 1.8), the
held-out loss is 4.80 from |w| and 5.46 from |w|⁸, whose scores are eight times as far apart: such a
wide spread needs a higher rate.

If the initial mask is not the criterion's own, but a ticket's for example, a margin M = 0.5 is
added to the scores of the weights that it keeps, and subtracted from those that it prunes. Where
mask and criterion disagree, a score lies within M of the threshold, and the nearer the more they
disagree. So on either side of the mask the order of the criterion is kept.

    S → M + S  if S ≥ 0,  M² / (M − S)  else        for a kept weight; mirrored for a pruned one
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.selection import keep_largest
from tamtctl.pruning.one_shot import Ranking
from tamtctl.pruning.patterns import UNSTRUCTURED, Pattern, find_pattern
from tamtctl.pruning.patterns.structured import kept_of, kept_structures, sums

# Two values: the initial score of a kept weight; that of a pruned one is 0.
KEPT_SCORE = 0.02
# In nats: the margin M by which a mask that is not the criterion's moves scores.
MARGIN = 0.5
# In nats: least distance of a score from the threshold, less than any step of training.
_APART = 1e-9
# Share by which scores are moved apart that rounding made equal, in a pattern's mask.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Start:
    """The start of a search: masks, counts and scores.

    Attributes:
        masks: Name → initial mask of every matrix of the checkpoint, from which flips are counted.
        keep: Name → how many weights each matrix keeps.
        scores: Name → initial score in nats of every weight whose mask is trained; for a structured
            pattern, group → initial score of its structures. None: two values.
        cuts: Counts like ``keep``, after each cut of iterative pruning.
        calibration_seconds: Seconds in which statistics were gathered for it, now or when cached.
        unranked: Names of the matrices that the criterion's text does not reach.
    """

    masks: dict[str, Tensor]
    keep: dict[str, int]
    scores: dict[str, Tensor] | None = None
    cuts: tuple[dict[str, int], ...] = ()
    calibration_seconds: float = 0.0
    unranked: tuple[str, ...] = ()


def scores_in_nats(
    ranking: Ranking,
    masks: Mapping[str, Tensor],
    keep: Mapping[str, int],
    weights: Mapping[str, Tensor],
    pattern: str,
) -> dict[str, Tensor]:
    """Return name → S₀ of every weight, or group → S₀ of its structures, for the initial masks.

    Args:
        ranking: How the criterion ranks the weights.
        masks: Name → initial mask of every matrix that gets scores.
        keep: Name → how many weights are kept. If a mask keeps another number, its scores are
            shifted so that this many are above 0.
        weights: Name → pre-trained weight.
        pattern: Which sets of weights may be kept, a name on the shelf of patterns.

    Raises:
        UsageError: The criterion gives importances that are negative or infinite.
    """
    row = find_pattern(pattern)
    if row.is_structured:
        return _of_structures(ranking, masks, keep, weights, row)
    scores: dict[str, Tensor] = {}
    for name, mask in masks.items():
        logarithms = _logarithms(ranking.importance[name], weights[name], name)
        by_row = name in ranking.by_row
        if not _is_cut(logarithms, mask, by_row=by_row):
            count = {name: int(mask.sum())}
            mask = ranking.masks(count)[name].to(mask.device)
        scores[name] = _centred(logarithms, mask, by_row=by_row).to(weights[name].dtype)
    if row.is_followed:
        strange = {name for name, mask in masks.items() if not torch.equal(scores[name] > 0, mask)}
    else:
        strange = _told_apart(scores, masks, weights, row)
    for name in strange:
        scores[name] = _with_margin(scores[name], masks[name])
    if row.is_followed:
        for name, mask in masks.items():
            if keep[name] != int(mask.sum()):
                chosen = keep_largest(scores[name], keep[name], weights[name].abs())
                scores[name] = _centred(scores[name], chosen, by_row=False)
    return scores


def _of_structures(
    ranking: Ranking,
    masks: Mapping[str, Tensor],
    keep: Mapping[str, int],
    weights: Mapping[str, Tensor],
    row: Pattern,
) -> dict[str, Tensor]:
    """Return group → S₀ of its structures; a structure's importance is the sum of its weights'."""
    structures = row.structures({name: tuple(mask.shape) for name, mask in masks.items()})
    for name in masks:
        _check_importance(ranking.importance[name], name)
    home = {name: ranking.importance[name].to(weights[name].device) for name in masks}
    ties = {n: ranking.ties[n].to(weights[n].device) for n in masks if n in ranking.ties}
    summed = replace(
        ranking,
        importance=sums(structures, home),
        ties=sums(structures, ties),
        by_row=frozenset(),
        reached=frozenset(structures),
    )
    dtypes = {group: weights[slices[0].matrix].dtype for group, slices in structures.items()}
    found = scores_in_nats(
        summed,
        kept_structures(structures, masks),
        kept_of(structures, keep),
        sums(structures, {name: weights[name].abs() for name in masks}),
        UNSTRUCTURED,
    )
    return {group: scores.to(dtypes[group]) for group, scores in found.items()}


def _check_importance(importance: Tensor, name: str) -> None:
    """Raise UsageError if importances of a matrix have no logarithms."""
    if bool((importance < 0).any() | importance.isinf().any()):
        raise UsageError(
            f"the importance of weights of {name} is negative or infinite, which has no place in "
            "nats; --init-scores two-valued takes any order"
        )


def _logarithms(importance: Tensor, weight: Tensor, name: str) -> Tensor:
    """Return log c in float64, on the device of the weight."""
    _check_importance(importance, name)
    importance = importance.to(weight.device)
    if not bool(importance.any()):  # all are 0: rank by magnitude instead
        importance = weight.abs()
    positive = importance[importance > 0]
    smallest = float(positive.min()) if len(positive) else 1.0
    return importance.double().clamp(min=smallest).log()


def _bounds(values: Tensor, mask: Tensor, *, by_row: bool) -> tuple[Tensor, Tensor]:
    """Return the smallest kept and the largest pruned value, of the matrix or of each row."""
    table = values.flatten(1) if by_row else values.reshape(1, -1)
    kept = mask.view_as(table)
    lowest = table.masked_fill(~kept, torch.inf).amin(1)
    highest = table.masked_fill(kept, -torch.inf).amax(1)
    return lowest, highest  # both (R,) or (1,)


def _is_cut(values: Tensor, mask: Tensor, *, by_row: bool) -> bool:
    """Whether a mask keeps the largest values."""
    lowest, highest = _bounds(values, mask, by_row=by_row)
    return bool((lowest >= highest).all())


def _centred(values: Tensor, mask: Tensor, *, by_row: bool) -> Tensor:
    """Shift values so that those that the mask keeps, the largest, are above 0, others below."""
    lowest, highest = _bounds(values, mask, by_row=by_row)
    middle = (lowest + highest) / 2
    middle = torch.where(lowest.isinf(), highest, torch.where(highest.isinf(), lowest, middle))
    centred = (values - middle[:, None]).view_as(values)  # of structures (U,), too
    return torch.where(mask, centred.clamp(min=_APART), centred.clamp(max=-_APART))


def _told_apart(
    scores: dict[str, Tensor],
    masks: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    row: Pattern,
) -> set[str]:
    """Separate scores that rounding made equal; return all names if their masks still differ."""
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    sizes = {name: weights[name].abs() for name in masks}
    for name, chosen in row.select(scores, counts, sizes).items():
        apart = (masks[name].float() - chosen.float()) * _ROUNDING * (1 + scores[name].abs())
        scores[name] = scores[name] + apart
    found = row.select(scores, counts, sizes)
    return set() if all(torch.equal(found[name], masks[name]) for name in masks) else set(masks)


def _with_margin(scores: Tensor, mask: Tensor) -> Tensor:
    """Return scores that are above 0 where the mask keeps; see the top of the module."""
    side = mask.to(scores.dtype) * 2 - 1
    signed = scores * side  # positive where mask and criterion agree
    distance = torch.where(signed >= 0, MARGIN + signed, MARGIN**2 / (MARGIN - signed.clamp(max=0)))
    return side * distance
