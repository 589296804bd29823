"""Converting 2:4 zeros at load into tensors that sparse tensor cores multiply faster.

A checkpoint of a ticket of the pattern 2:4 has its zeros as numbers. A GPU gains by them only if
torch stores what is kept, with its places: semi-structured tensors (Mishra et al., 2021,
arXiv:2104.08378, §3). Such a model can be run, and be neither trained nor saved.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import reason
from tamtctl.models.encoder import base_encoder

_KEPT, _OF = 2, 4
_DTYPES = (torch.float16, torch.bfloat16)
_LEAST_CAPABILITY = (8, 0)  # of GPUs with sparse tensor cores


@dataclass(frozen=True, repr=False)
class SemiStructured(Shown):
    """What was converted.

    Attributes:
        converted: Names of the matrices in the base encoder that are semi-structured now.
        dense: Name → why a matrix with 2:4 zeros stays dense.
        weights: Number of weights in the converted matrices, zeros included.
    """

    converted: tuple[str, ...]
    dense: dict[str, str]
    weights: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"converted": list(self.converted)}


@torch.no_grad()
def semi_structured(model: PreTrainedModel) -> SemiStructured:
    """Convert the linear layers with 2:4 zeros of a loaded model, in place, to run on a CUDA GPU.

    A matrix is converted if, of every 4 neighbours in a row, at least 2 are zero. One whose shape
    the GPU's kernels do not take stays dense, with the same outputs. To convert again, or to train,
    load the model anew.

    Args:
        model: A model of transformers with any head, on a CUDA GPU, in float16 or bfloat16.

    Raises:
        ModelError: The model is not on a GPU with sparse tensor cores, is in another precision, has
            no matrix with 2:4 zeros, or none that the kernels take.

    Example:
        >>> model = AutoModel.from_pretrained("my-sparse-model").half()
        >>> try:
        ...     tamtctl.semi_structured(model)
        ... except tamtctl.TamtctlError as error:
        ...     print(str(error).partition(",")[0])
        semi-structured tensors are for a CUDA GPU
    """
    base = cast(nn.Module, base_encoder(model))
    _check_place(next(base.parameters()))
    layers = {
        f"{name}.weight": module
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and has_two_of_four(module.weight)
    }
    if not layers:
        raise ModelError(
            "no linear layer of this model has 2 zeros among every 4 neighbours of a row: give "
            "what export writes of a ticket of the pattern 2:4"
        )
    converted, dense, weights = [], {}, 0
    for name, layer in layers.items():
        try:
            with warnings.catch_warnings():  # torch calls its own class a prototype
                warnings.simplefilter("ignore", UserWarning)
                sparse = torch.sparse.to_sparse_semi_structured(layer.weight.detach().contiguous())
        except (RuntimeError, ValueError) as error:
            dense[name] = reason(error)
            continue
        weights += layer.weight.numel()
        layer.weight = nn.Parameter(sparse, requires_grad=False)
        converted.append(name)
    if not converted:
        name, why = next(iter(dense.items()))
        raise ModelError(f"torch converts no matrix of this model; {name}: {why}")
    return SemiStructured(tuple(converted), dense, weights)


def has_two_of_four(weight: Tensor) -> bool:
    """Whether at least 2 of every 4 neighbours in a row of a matrix (R, C) are zero."""
    if weight.dim() != 2 or weight.shape[1] % _OF:
        return False
    kept = (weight.detach().view(-1, _OF) != 0).sum(dim=1)  # (groups,)
    return bool((kept <= _KEPT).all())


def _check_place(weight: Tensor) -> None:
    """Refuse a model that is not where sparse tensor cores are.

    Raises:
        ModelError: It is on another device, or in another precision.
    """
    if not weight.is_cuda:
        what = "move it there first" if torch.cuda.is_available() else "this machine has none"
        raise ModelError(
            f"semi-structured tensors are for a CUDA GPU, and this model is on {weight.device}: "
            f"{what}; with its zeros it runs anywhere, as fast as without"
        )
    if torch.cuda.get_device_capability(weight.device) < _LEAST_CAPABILITY:
        raise ModelError(
            f"semi-structured tensors need a GPU with sparse tensor cores, from compute capability "
            f"8.0 on, and {torch.cuda.get_device_name(weight.device)} has none"
        )
    if weight.dtype not in _DTYPES:
        raise ModelError(
            f"semi-structured tensors gain in half precision, and this model is in "
            f"{str(weight.dtype).removeprefix('torch.')}: load it with dtype=torch.float16"
        )
