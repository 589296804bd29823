"""The trained scores of a search, kept in its run folder to derive tickets of other sparsities."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tamtctl.foundations.errors import DamagedRunError
from tamtctl.foundations.tensor_files import write_tensors
from tamtctl.pruning.one_shot import WORD_LIFT, kept_of_every_word
from tamtctl.pruning.patterns import UNSTRUCTURED, find_pattern
from tamtctl.pruning.patterns.structured import select_of, sums
from tamtctl.training.run_folder import SCORES


def save_scores(run: Path, scores: Mapping[str, Tensor]) -> None:
    """Write the scores of a training into a run's folder, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in scores.items()}
    write_tensors(run / SCORES, tensors)


def masks_from_scores(
    run: Path,
    weights: Mapping[str, Tensor],
    keep: Mapping[str, int],
    pattern: str = UNSTRUCTURED,
    *,
    words: Collection[str] = (),
    word_floor: float = 0.0,
) -> dict[str, Tensor]:
    """Return the masks that keep the largest scores of a search.

    Args:
        run: The run folder of the search.
        weights: Name → pre-trained weight of every matrix that the search masked; among equal
            scores the larger weight is kept.
        keep: Name → how many weights are kept, for at least these matrices.
        pattern: Which sets of weights may be kept, a name on the shelf of patterns.
        words: The matrices that words are looked up in.
        word_floor: That of the search; at another sparsity every word keeps another number of
            weights.

    Raises:
        DamagedRunError: The run has no readable scores, or scores of other matrices.
    """
    try:
        scores = load_file(run / SCORES)
    except (OSError, SafetensorError) as error:
        raise DamagedRunError(
            f"the run {str(run)!r} has no scores that can be read; search with --keep-scores"
        ) from error
    row = find_pattern(pattern)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    structures = row.structures(shapes) if row.is_structured else None
    wanted = shapes
    if structures is not None:
        wanted = {group: (slices[0].count,) for group, slices in structures.items()}
    if {name: tuple(tensor.shape) for name, tensor in scores.items()} != wanted:
        raise DamagedRunError(f"the scores of {str(run)!r} are not those of this model's matrices")
    counts = {name: keep[name] for name in weights}
    sizes = {name: w.cpu().abs() for name, w in weights.items()}
    if structures is not None:
        return select_of(structures, scores, counts, sums(structures, sizes))
    if word_floor:
        for name in scores.keys() & set(words):
            scores[name] = _lifted_again(scores[name], keep[name], word_floor, sizes[name])
    return row.select(scores, counts, sizes)


def _lifted_again(scores: Tensor, keep: int, floor: float, sizes: Tensor) -> Tensor:
    """Return scores (words, width) that are lifted where every word keeps its weights now."""
    kept = kept_of_every_word(scores, keep, floor, sizes)  # first of all what it kept before
    lowered = torch.where(scores > WORD_LIFT / 2, scores - WORD_LIFT, scores)
    return torch.where(kept, lowered + WORD_LIFT, lowered)
