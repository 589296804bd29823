"""Checksums of pre-trained weights, by which a ticket recognises its base model.

Imports nothing heavy, so that a ticket can be verified without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def combined_fingerprint(shapes: Mapping[str, Iterable[int]], hashes: Mapping[str, str]) -> str:
    """Return the fingerprint of a set of matrices from their shapes and checksums, in hex.

    It is the SHA-256 of the sorted lines ``name shape sha256`` (shape as ``768x3072``, each line
    ended by a newline).
    """
    lines = sorted(f"{n} {'x'.join(map(str, shapes[n]))} {hashes[n]}\n" for n in hashes)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256_of_array(weight: NDArray[Any]) -> str:
    """Return the hex SHA-256 of a weight as little-endian float32 in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(weight, dtype="<f4").data).hexdigest()
