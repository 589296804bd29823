"""Files of tensors that are whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from tamtctl.foundations.files import give_usual_rights, put_in_place, unfinished


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, or let it be what it was before.

    Args:
        file: Its folder must exist.
        tensors: Name → tensor, contiguous and on the CPU.
        metadata: What its header holds besides.

    Raises:
        OSError: It cannot be written.
        SafetensorError: The same, as safetensors says it.
    """
    with unfinished(file.parent, f".{file.name}-", is_folder=False) as new:
        save_file(dict(tensors), new, metadata=metadata)
        give_usual_rights(new)
        put_in_place(new, file)
