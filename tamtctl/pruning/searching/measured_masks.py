"""The held-out losses of a search's mask, and of the masks that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from tamtctl.foundations.working import counted
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import is_criterion
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.methods import IMP
from tamtctl.pruning.objectives.held_out_loss import total_error, total_loss
from tamtctl.pruning.one_shot import keep_counts, one_shot_masks
from tamtctl.pruning.searching.mask_probe import MaskProbe, ProbeText
from tamtctl.pruning.searching.result import START, candidates

MakeMasks = Callable[[], Mapping[str, Tensor] | None]  # None: the dense model


def masks_to_measure(
    config: SearchConfig, frozen: Mapping[str, Tensor], start: MakeMasks, ticket: MakeMasks
) -> dict[str, MakeMasks]:
    """Return candidate → function that makes its masks, in the order of `candidates`.

    Args:
        config: The search.
        frozen: Name → pre-trained weight W of every matrix that a mask may prune.
        start: Makes the masks that training started from; left out if they are those of a baseline,
            which is measured anyway.
        ticket: Makes the masks that were found.
    """
    context = Context(weights=frozen, seed=config.seed)
    keep = keep_counts(frozen, config.settled_sparsity, config.pattern)
    makers: dict[str, MakeMasks] = {
        name: partial(one_shot_masks, name, context, keep, config.pattern) for name in candidates()
    }
    makers |= {"dense": lambda: None, START: start, "ticket": ticket}
    if not _starts_elsewhere(config):
        del makers[START]
    return makers


def _starts_elsewhere(config: SearchConfig) -> bool:
    """Return whether training starts from the mask of a criterion that is no baseline."""
    is_baseline = config.criterion.is_baseline and config.budgets_by is None
    starts_from_criterion = config.method == IMP or is_criterion(config.init)
    return config.is_trained and starts_from_criterion and not is_baseline


def losses_of(
    makers: Mapping[str, MakeMasks], probe: MaskProbe, texts: Mapping[str, ProbeText]
) -> tuple[dict[str, dict[str, float]], dict[str, float | None]]:
    """Measure masks one after the other, so that only one set of them is in memory.

    Returns:
        Two mappings: name of a text → candidate → loss; and candidate → standard error of
        ``losses``.
    """
    losses: dict[str, dict[str, float]] = {name: {} for name in texts}
    errors: dict[str, float | None] = {}
    for candidate, make in counted(makers.items(), "measuring mask", len(makers)):
        masks = make()
        for name, text in texts.items():
            terms = probe.losses(text, masks)
            losses[name][candidate] = total_loss(terms.values())
            if name == "losses":
                errors[candidate] = total_error(terms.values())
    return losses, errors
