"""Writing safetensors files atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from tamtctl.foundations.files import give_usual_rights, put_in_place, unfinished


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file; if that fails, an older one stays.

    Args:
        file: The file, whose folder must exist.
        tensors: Name → tensor, contiguous and on the CPU.
        metadata: Further text values in its header.

    Raises:
        OSError: The file cannot be written.
        SafetensorError: safetensors cannot write the file.
    """
    with unfinished(file.parent, f".{file.name}-", is_folder=False) as new:
        save_file(dict(tensors), new, metadata=metadata)
        give_usual_rights(new)
        put_in_place(new, file)
