"""Statistics that were gathered before: kept in the cache, under all that they follow from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.foundations.cache import cache_folder
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.tensor_files import write_tensors
from tamtctl.pruning.statistics.table import Statistic

_VERSION = 1  # raise it whenever the same batches would give other numbers to every statistic
_FACTS = "facts"  # one key: several would stand in any order


@dataclass(frozen=True)
class Kept:
    """A statistic, and what it took.

    Attributes:
        values: Name of a matrix → values; what several have in common is one tensor.
        seconds: How long the pass took that gathered it, which several may have in common.
    """

    values: Mapping[str, Tensor]
    seconds: float


def digest_of(batches: Sequence[Batch]) -> str:
    """Return the digest of a text as a model sees it: rows, length, order, noise and all."""
    digest = hashlib.sha256()
    for batch in batches:
        for field in dataclasses.fields(batch):
            if isinstance(tensor := getattr(batch, field.name), Tensor):
                digest.update(f"{field.name} {list(tensor.shape)}".encode())
                digest.update(tensor.numpy(force=True).tobytes())
    return digest.hexdigest()


def file_of(row: Statistic, model: str, matrices: Sequence[str], text: str, on: Compute) -> Path:
    """Return where a statistic is kept.

    Args:
        row: The statistic.
        model: Digest of the model.
        matrices: Those that it is of.
        text: Digest of the text.
        on: Where it is gathered, and in which precision.
    """
    facts = [
        _VERSION, row.name, row.version, model, list(matrices), text, on.device.type, on.precision
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return cache_folder("statistics") / f"{name}.safetensors"


def write(file: Path, statistic: Kept) -> None:
    """Keep a statistic; where the cache cannot be written, it is gathered again next time.

    Args:
        file: What `file_of` returned.
        statistic: The statistic; what several matrices have in common is kept once.
    """
    first: dict[int, str] = {}
    same = {name: first.setdefault(id(values), name) for name, values in statistic.values.items()}
    tensors = {name: statistic.values[name].contiguous() for name in first.values()}
    told = {"sha256": _sum_of(tensors), "same": same, "seconds": statistic.seconds}
    facts = {_FACTS: json.dumps(told)}
    with suppress(OSError, SafetensorError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(file, tensors, facts)


def read(file: Path) -> Kept | None:
    """Return a statistic; None if it is not there, or not as it was written."""
    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            facts = json.loads(content.metadata()[_FACTS])
        if facts["sha256"] != _sum_of(tensors):
            return None
        values = {name: tensors[leader] for name, leader in facts["same"].items()}
        return Kept(values, float(facts["seconds"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sum_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
