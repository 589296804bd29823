"""The zeros that a model already has, and whether fine-tuning without a ticket keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.paths import expanded
from tamtctl.models.encoder import base_encoder, maskable_matrices
from tamtctl.pruning.recovery.record import RECOVERY_FILE
from tamtctl.tasks.run_facts import RunFacts

KEPT: Literal["kept"] = "kept"
TRAINED: Literal["trained"] = "trained"

_PRUNED = 0.1  # share of zeros from which a model is taken for a pruned one
_WORTH_A_WORD = 0.01


def zeros_to_keep(
    model: PreTrainedModel, name: str, wanted: bool | None, note: Callable[[str], None]
) -> dict[str, Tensor]:
    """Decide on the zeros of a model that is fine-tuned without a ticket, and say so.

    By default they are kept in a recovered checkpoint, in a fine-tuned one whose run kept them, and
    in any other model at least a tenth of whose weights are zeros.

    Args:
        model: The model as it was loaded.
        name: The name that it was loaded by.
        wanted: Whether the user asked to keep the zeros; None: the default above.
        note: Is told what is done with them.

    Returns:
        Name → mask of the pruned weights (True prunes) on the CPU; empty if they are trained.

    Raises:
        ModelError: They are to be kept, and there are none.
    """
    zeros = _zeros(model)
    share = share_of_zeros(model, zeros)
    if wanted and not zeros:
        raise ModelError(f"model {name!r} holds no zeros to keep; leave --keep-zeros out")
    is_kept = _was_pruned(name, share) if wanted is None else wanted
    shown = f"{share:.0%} of the weights of model {name} are zeros, which"
    if is_kept:
        note(f"{shown} stay zeros; --no-keep-zeros trains them like all others")
        return zeros
    if share >= _WORTH_A_WORD:
        note(f"{shown} are trained like all others and filled in; --keep-zeros keeps them")
    return {}


def what_becomes_of_zeros(
    model: PreTrainedModel, has_pruned: bool
) -> Literal["kept", "trained"] | None:
    """Return what is done with a model's zeros; None if it has hardly any."""
    if has_pruned:
        return KEPT
    return TRAINED if share_of_zeros(model, _zeros(model)) >= _WORTH_A_WORD else None


def share_of_zeros(model: PreTrainedModel, zeros: dict[str, Tensor]) -> float:
    """Return the share of zeros in the matrices that a ticket could mask."""
    total = sum(matrix.numel() for matrix in maskable_matrices(model).values())
    return sum(int(mask.sum()) for mask in zeros.values()) / total


def is_fine_tuned(name: str) -> bool:
    """Return whether a folder is a checkpoint of a fine-tuning run of this program."""
    return RunFacts.read(expanded(name)) is not None


def is_recovered(name: str) -> bool:
    """Return whether a folder is a checkpoint that ``recover`` wrote."""
    return (expanded(name) / RECOVERY_FILE).is_file()


def _was_pruned(name: str, share: float) -> bool:
    """Return whether a model is taken for a pruned one.

    The share of zeros does not decide for a fine-tuned model, but what its run did: a run that
    trained the zeros still leaves those of words that no text held.
    """
    if share and is_recovered(name):
        return True
    facts = RunFacts.read(expanded(name))
    if share and facts is not None and facts.sparsity is not None:
        return facts.sparsity > 0
    return share >= _PRUNED


def _zeros(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return name → mask of a matrix (True where it is zero), for maskable matrices with zeros.

    Whole rows of zeros in the word embeddings, such as that of padding, do not count as pruned;
    but if that matrix has other zeros, its mask has these rows, too.
    """
    table = base_encoder(model).get_input_embeddings().weight
    found = {}
    for name, matrix in maskable_matrices(model).items():
        zeros = matrix.detach().cpu() == 0
        pruned = zeros[~zeros.all(dim=1)] if matrix is table else zeros
        if bool(pruned.any()):
            found[name] = zeros
    return found
