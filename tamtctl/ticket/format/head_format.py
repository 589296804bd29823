"""The file of a ticket's masked-LM head, and the checks of its content, without torch.

A ticket may come from anybody, so all of its head is verified before torch reads any of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tamtctl.foundations.untrusted import Defect, RawTensor, check_name

if TYPE_CHECKING:
    from torch import Tensor

HEAD_FILE = "mlm_head.safetensors"
_BF16_EXPONENT = 0x7F80  # all of these bits are set in NaN and infinities
_NUMBERS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # numpy has no bfloat16


class StoredHead(Mapping[str, "Tensor"]):
    """The head of a loaded ticket; torch makes its tensors when they are used.

    Args:
        content: The bytes of the file, already checked.
        names: Names of its tensors.
    """

    def __init__(self, content: bytes, names: Iterable[str]) -> None:
        self._content: bytes | None = content
        self._names = tuple(names)
        self._tensors: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if self._content is not None:
            from safetensors.torch import load

            self._tensors, self._content = load(self._content), None
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def check_head(tensors: Mapping[str, RawTensor], matrices: Mapping[str, Iterable[int]]) -> None:
    """Check that tensors can be a masked-LM head, as far as the ticket alone tells.

    Args:
        tensors: Name → tensor.
        matrices: Name → shape of the matrices that the ticket masks. A head may contain neither
            these nor parameters beside them in the encoder.

    Raises:
        Defect: They cannot.
    """
    if not tensors:
        raise Defect(f"{HEAD_FILE} holds no head")
    for name in tensors:
        check_name(name, HEAD_FILE)
    check_numbers(tensors)
    encoder = {name.split(".")[0] for name in matrices}
    embeddings = {tuple(shape) for name, shape in matrices.items() if "embedding" in name}
    for name, tensor in tensors.items():
        # A model with a head puts one more part before encoder names: bert.encoder.layer.0.
        parts = name.split(".")
        if parts[0] in encoder or (len(parts) > 2 and parts[1] in encoder):
            raise Defect(f"{HEAD_FILE}: {name} is part of the encoder, not of a head")
        if len(tensor.shape) == 2 and tensor.shape in embeddings:
            raise Defect(f"{HEAD_FILE}: {name} is a decoder's matrix, which no ticket holds")


def check_numbers(tensors: Mapping[str, RawTensor]) -> None:
    """Check that all tensors hold finite floating-point numbers.

    Raises:
        Defect: One does not.
    """
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise Defect(f"{HEAD_FILE}: {name} is not made of finite floating-point numbers")


def _is_finite(tensor: RawTensor) -> bool:
    if tensor.dtype not in _NUMBERS:
        return False
    values = np.frombuffer(tensor.data, _NUMBERS[tensor.dtype])
    if tensor.dtype == "BF16":
        return bool(((values & _BF16_EXPONENT) != _BF16_EXPONENT).all())
    return bool(np.isfinite(values).all())
