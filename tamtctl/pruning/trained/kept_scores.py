"""The trained scores of a search: kept in its run, they give a ticket at any other sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tamtctl.foundations.errors import DamagedRunError
from tamtctl.foundations.tensor_files import write_tensors
from tamtctl.pruning.patterns import PATTERNS, UNSTRUCTURED
from tamtctl.training.run_folder import SCORES


def save_scores(run: Path, scores: Mapping[str, Tensor]) -> None:
    """Write name → score of every weight into a run's folder; the file is whole or not there."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in scores.items()}
    write_tensors(run / SCORES, tensors)


def masks_from_scores(
    run: Path,
    weights: Mapping[str, Tensor],
    keep: Mapping[str, int],
    pattern: str = UNSTRUCTURED,
) -> dict[str, Tensor]:
    """Return the masks that keep the largest scores of a search.

    Args:
        run: The folder of the search.
        weights: Name → pre-trained weight; among equal scores the larger one is kept.
        keep: Name → how many weights are kept, of every one of them at least.
        pattern: Which sets of weights may be kept, a name on the shelf of patterns.

    Raises:
        DamagedRunError: The run kept no scores of these weights.
    """
    try:
        scores = load_file(run / SCORES)
    except (OSError, SafetensorError) as error:
        raise DamagedRunError(
            f"the run {str(run)!r} has no scores that can be read; search with --keep-scores"
        ) from error
    shapes = {name: weight.shape for name, weight in weights.items()}
    if {name: tensor.shape for name, tensor in scores.items()} != shapes:
        raise DamagedRunError(f"the scores of {str(run)!r} are not those of this model's matrices")
    row = PATTERNS.find(pattern)
    counts = {name: keep[name] for name in weights}
    return row.select(scores, counts, {name: w.cpu().abs() for name, w in weights.items()})
