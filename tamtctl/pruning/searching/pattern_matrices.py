"""The matrices that a search masks under a sparsity pattern, and tickets that fit the pattern.

Where an allocation shares structures out, those of all groups compete with each other, by the sums
of their weights' importances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from tamtctl.foundations import printable
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.masks import keep_count
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.allocations import ALLOCATIONS
from tamtctl.pruning.allocations.request import Request
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.one_shot import keep_counts
from tamtctl.pruning.patterns import UNSTRUCTURED, find_pattern
from tamtctl.pruning.patterns.structured import kept_of, sums, weights_kept
from tamtctl.ticket.ticket import Ticket

_ABOVE_NONE = 1e-9  # a floor by which every group keeps one structure


def with_matrices_of_pattern(
    config: SearchConfig, encoder: Encoder, note: Callable[[str], None]
) -> Encoder:
    """Return the encoder, its maskable matrices reduced to those that the pattern applies to.

    Args:
        config: The whole search.
        encoder: The encoder with all of its matrices.
        note: Is given a line for people about matrices that stay dense.

    Raises:
        UsageError: The shapes do not allow this pattern, it applies to none of the matrices, or it
            has so few structures that the sparsity prunes none.
    """
    sparsity = config.settled_sparsity
    counts = keep_counts(encoder.weights, sparsity, config.pattern, encoder.embeddings)
    matrices = {name: p for name, p in encoder.matrices.items() if name in counts}
    if not matrices:
        raise UsageError(f"--pattern {config.pattern} is for no matrix of model {config.model!r}")
    if sparsity and all(counts[name] == p.numel() for name, p in matrices.items()):
        raise UsageError(
            f"--sparsity {sparsity:g} rounds to nothing of model {config.model!r} with --pattern "
            f"{config.pattern}; give a higher one"
        )
    pooler = {name: weight for name, weight in encoder.pooler.items() if name in counts}
    if dense := [name for name in encoder.weights if name not in counts]:
        note(
            f"--pattern {config.pattern} is for {len(counts)} of {len(encoder.weights)} matrices; "
            f"{printable.first(dense, 1)} stay{'s' * (len(dense) == 1)} dense"
        )
    return replace(encoder, matrices=matrices, pooler=pooler)


def structures_kept(
    config: SearchConfig, weights: Mapping[str, Tensor], request: Request
) -> dict[str, int]:
    """Return name → how many weights a matrix keeps, in structures that an allocation shares out.

    Args:
        config: The whole search, its pattern a structured one.
        weights: Name → weight of every matrix that the pattern applies to.
        request: What the allocation may look at, by matrices and weights.

    Raises:
        UsageError: The sparsity keeps fewer structures than there are groups, of which each keeps
            one.
    """
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    structures = find_pattern(config.pattern).structures(shapes)
    sizes = {group: slices[0].count for group, slices in structures.items()}
    total = sum(sizes.values())
    if (kept := keep_count(total, request.sparsity)) < len(sizes):
        raise UsageError(
            f"--sparsity {request.sparsity:g} keeps {kept} of {total} {config.pattern} in all, and "
            f"each of the {len(sizes)} layers keeps at least one: the highest is "
            f"{int(1e4 * (1 - len(sizes) / total)) / 1e4:g}"
        )
    counts = ALLOCATIONS[config.allocation].keep(
        replace(
            request,
            sizes=sizes,
            even=kept_of(structures, request.even),
            importance=sums(structures, request.importance),
            embeddings=frozenset(),
            floor=max(request.floor, _ABOVE_NONE),
        )
    )
    return weights_kept(structures, counts)


def check_pattern_of_start(config: SearchConfig, ticket: Ticket) -> None:
    """Refuse to start from a ticket whose masks have another pattern than the search.

    An unstructured search may start from any ticket.

    Raises:
        UsageError: The patterns differ.
    """
    if config.pattern in (UNSTRUCTURED, ticket.pattern):
        return
    raise UsageError(
        f"--pattern {config.pattern} cannot start from --init {config.init}, a ticket of the "
        f"pattern {ticket.pattern}; give a ticket of {config.pattern}, or a criterion"
    )
