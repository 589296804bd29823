"""Masks that take no training: each matrix keeps the weights that a criterion ranks highest."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import cast

import torch
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.selection import keep_largest_in_rows
from tamtctl.models.encoder import sha256_of_weight
from tamtctl.pruning.criteria import CRITERIA, JOINED_BY, REFERENCE, Criterion, find_criterion
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.patterns import UNSTRUCTURED, find_pattern

# How far above its own importance a weight is ranked that a word always keeps, in nats and as a
# factor. A training moves scores by a few nats.
WORD_LIFT = 200.0
_LIFT = math.exp(WORD_LIFT)
_STAY = ("tamtctl.", "transformers.", "torch.")  # begin the modules whose hooks may stay on a model


@dataclass(frozen=True)
class Ranking:
    """How much each weight matters to a criterion.

    Attributes:
        importance: Name → importance of every weight; the larger is kept.
        ties: Name → value of every weight that decides between equally important ones: the larger
            is kept. In a matrix without an entry the earlier weight is kept.
        by_row: Names of the matrices whose weights compete within each output row.
        reached: Names of the matrices that the criterion itself ranks; the `REFERENCE` ranks the
            others.
        passes: Seconds of each pass over text behind it, in this run or when its statistics were
            cached.
    """

    importance: dict[str, Tensor]
    ties: dict[str, Tensor]
    by_row: frozenset[str]
    reached: frozenset[str]
    passes: frozenset[float] = frozenset()

    def masks(self, keep: Mapping[str, int], pattern: str = UNSTRUCTURED) -> dict[str, Tensor]:
        """Return name → mask of the weights that rank highest.

        Args:
            keep: Name → how many weights to keep, of every matrix that gets a mask.
            pattern: Which sets of weights may be kept, a name on the shelf of patterns.
        """
        row = find_pattern(pattern)
        # Rows only compete where the pattern follows a threshold; other patterns have their own
        # groups.
        in_rows = self.by_row & keep.keys() if row.is_followed else frozenset()
        whole = {name: count for name, count in keep.items() if name not in in_rows}
        scores = {name: self.importance[name] for name in whole}
        masks = row.select(scores, whole, self.ties)
        masks |= {
            name: keep_largest_in_rows(self.importance[name], keep[name], self.ties.get(name))
            for name in in_rows
        }
        return {name: masks[name] for name in keep}


def with_word_floor(
    ranking: Ranking, keep: Mapping[str, int], embeddings: Collection[str], floor: float
) -> Ranking:
    """Return an order in which the most important weights of every word come first.

    Their importance is lifted so far that no training prunes them. Words of no importance, those
    that the text lacks, keep their largest weights.

    Args:
        ranking: How a criterion ranks the weights.
        keep: Name → how many weights a matrix keeps.
        embeddings: The matrices that words are looked up in, shape (words, width).
        floor: How many weights come first, as a share of those that a word keeps on average.

    Raises:
        UsageError: An importance is negative.
    """
    importance = dict(ranking.importance)
    for name in frozenset(embeddings) & ranking.reached & keep.keys():
        one = importance[name].to(torch.float64, copy=True)  # (words, width)
        if bool((one < 0).any()):
            raise UsageError(
                f"the importance of weights of {name} is negative, and --word-floor lifts that of "
                "some by a factor; give --word-floor 0, or a criterion without negative scores"
            )
        positive = one[one > 0]
        one.clamp_(min=float(positive.min()) if len(positive) else 1.0)
        one[kept_of_every_word(one, keep[name], floor, ranking.ties.get(name))] *= _LIFT
        importance[name] = one
    return replace(ranking, importance=importance)


def kept_of_every_word(
    values: Tensor, keep: int, floor: float, among_equals: Tensor | None
) -> Tensor:
    """Return the mask of the weights that ``--word-floor`` keeps.

    Rows keep equally many, or one more where the next value is among the largest.

    Args:
        values: Importance or score of every weight of a matrix of words, shape (words, width).
        keep: How many weights the matrix keeps.
        floor: How many of them each word has at least, as a share of the mean over all words.
        among_equals: Decides between equal values: the larger is kept.
    """
    return keep_largest_in_rows(values, int(Decimal(repr(floor)) * keep), among_equals)


def ranked(criterion: str, context: Context, names: Iterable[str]) -> Ranking:
    """Return how a criterion ranks the weights of some matrices.

    Args:
        criterion: A name on the shelf of criteria, or a combined order.
        context: What the criterion may use.
        names: The matrices.

    Raises:
        UsageError: The criterion gives scores that cannot be ranked.
    """
    row, weights, names = find_criterion(criterion), context.weights, tuple(names)
    is_foreign = any(CRITERIA[part].is_foreign for part in row.name.split(JOINED_BY))
    before, left = _state_of(context, by_content=is_foreign), _left_on(context)
    given = row.scores(context)
    if not isinstance(given, Mapping):
        raise UsageError(f"criterion {row.name!r} gives no mapping of name → scores")
    if _state_of(context, by_content=is_foreign) != before:
        raise UsageError(
            f"criterion {row.name!r} writes to the model's weights; its scores must be new tensors"
        )
    for what, value in _left_on(context).items():
        if value != left[what]:
            raise UsageError(f"criterion {row.name!r} leaves {what} changed; it must undo that")
    if strange := sorted(given.keys() - weights.keys()):
        raise UsageError(f"criterion {row.name!r} scores {strange[0]!r}, which is no matrix")
    scores = {
        name: _checked(row, name, given[name], weights[name]) for name in names if name in given
    }
    if not scores and names and not row.needs_text:
        raise UsageError(f"criterion {row.name!r} gives no scores of any matrix")
    ties = {n: weights[n].abs().to(s.device) for n, s in scores.items() if row.breaks_ties}
    reached = frozenset(scores)
    if left := {name: weights[name] for name in names if name not in scores}:
        scores |= CRITERIA[REFERENCE].scores(Context(weights=left))
    # The rows of a table are tokens, not outputs: a rare token may lose all of its weights.
    tables = context.encoder.embeddings if context.encoder else frozenset()
    by_row = reached - tables if row.group == "row" else frozenset()
    passes = context.calibration.passes if context.calibration else frozenset()
    return Ranking(scores, ties, by_row, reached, passes)


def one_shot_masks(
    criterion: str, context: Context, keep: Mapping[str, int], pattern: str = UNSTRUCTURED
) -> dict[str, Tensor]:
    """Return name → mask of the weights that a criterion ranks highest.

    Args:
        criterion: A name on the shelf of criteria, or a combined order.
        context: What the criterion may use.
        keep: Name → how many weights to keep, of every matrix that gets a mask.
        pattern: Which sets of weights may be kept, a name on the shelf of patterns.

    Raises:
        UsageError: The criterion gives scores that cannot be ranked.
    """
    masks = ranked(criterion, context, keep).masks(keep, pattern)
    return {name: mask.to(context.weights[name].device) for name, mask in masks.items()}


def reference_masks(
    weights: Mapping[str, Tensor], keep: Mapping[str, int], pattern: str = UNSTRUCTURED
) -> dict[str, Tensor]:
    """Return name → mask of the reference criterion, for each matrix of ``keep``."""
    chosen = {name: weights[name] for name in keep}
    return one_shot_masks(REFERENCE, Context(weights=chosen), keep, pattern)


def keep_counts(
    weights: Mapping[str, Tensor],
    sparsity: float,
    pattern: str = UNSTRUCTURED,
    embeddings: Collection[str] = (),
) -> dict[str, int]:
    """Return name → how many weights a matrix keeps, for the matrices that the pattern applies to.

    Args:
        weights: Name → weight.
        sparsity: Share of zeros, the same in every matrix.
        pattern: Which sets of weights may be kept.
        embeddings: Names of the word-embedding matrices, which some patterns leave dense.

    Raises:
        UsageError: The shapes of the matrices do not allow this pattern.
    """
    row = find_pattern(pattern)
    names = weights.keys() if row.is_of_words else weights.keys() - set(embeddings)
    return row.keep({n: tuple(w.shape) for n, w in weights.items() if n in names}, sparsity)


def _state_of(context: Context, *, by_content: bool) -> list[object]:
    """Return what tells whether a tensor of the model was written to in place.

    Args:
        context: Holds the model.
        by_content: Look at the content, too: autograd's count of writes does not see those of numpy
            or through ``.data``.
    """
    tensors = [*context.weights.values()]
    if context.encoder is not None:
        tensors += cast("torch.nn.Module", context.encoder.model).parameters()
    contents = [sha256_of_weight(tensor) for tensor in tensors] if by_content else []
    return [*contents, *(tensor._version for tensor in tensors)]


def _left_on(context: Context) -> dict[str, object]:
    """Return what a criterion may change and must put back: what it is → its present value."""
    found: dict[str, object] = {"whether torch takes gradients": torch.is_grad_enabled()}
    if context.encoder is not None:
        modules = list(cast("torch.nn.Module", context.encoder.model).modules())
        found["the hooks of the model"] = [hook for one in modules for hook in _foreign_hooks(one)]
        found["the mode of the model"] = [module.training for module in modules]
    return found


def _foreign_hooks(module: torch.nn.Module) -> list[object]:
    """Return the hooks of a module, but those of this package and of libraries, which may stay."""
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    hooks = [hook for kind in (*kinds, module._backward_pre_hooks) for hook in kind.values()]
    return [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith(_STAY)]


def _checked(row: Criterion, name: str, scores: object, weight: Tensor) -> Tensor:
    if (
        not isinstance(scores, Tensor)
        or scores.is_complex()
        or scores.is_meta
        or scores.layout != torch.strided
    ):
        raise UsageError(
            f"criterion {row.name!r} gives scores of {name} that are no dense tensor of real "
            "numbers"
        )
    if scores.shape != weight.shape:
        raise UsageError(
            f"criterion {row.name!r} gives scores of {name} of shape {list(scores.shape)}, "
            f"for a matrix of shape {list(weight.shape)}"
        )
    if not bool(scores.isfinite().all()):
        what = "no numbers" if bool(scores.isnan().any()) else "infinite"
        raise UsageError(f"criterion {row.name!r} gives scores of {name} that are {what}")
    scores = scores.detach()  # code that takes gradients may leave theirs attached
    return scores.float() if scores.dtype == torch.bfloat16 else scores  # numpy has no bfloat16
