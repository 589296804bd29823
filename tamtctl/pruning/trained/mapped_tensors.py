"""Tensors that live in a file and not in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def mapped_copies(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return copies of tensors on a CPU that are read from a file whenever they are needed.

    They are never to be written. Where memory is free the system keeps the file in it, and they are
    as fast as any other tensor; where it is not, the file's pages give way. The file has no name
    and is gone with the last copy.

    Args:
        tensors: Name → tensor of a type that numpy knows.
        folder: Where the file is to be, on a disk; it is made if need be.

    Raises:
        OSError: The file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = {}
    with tempfile.TemporaryFile(dir=folder) as file:
        for name, tensor in tensors.items():
            values = tensor.detach().numpy()
            start = file.tell()
            values.tofile(file)
            file.flush()
            # "c" would keep to itself what is written; torch warns of arrays that are read-only.
            array = np.memmap(file, values.dtype, mode="c", offset=start, shape=values.shape)
            copies[name] = torch.from_numpy(array)
            file.seek(0, 2)
    return copies
