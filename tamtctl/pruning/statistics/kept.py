"""Statistics that were gathered before: kept in the cache, under all that they follow from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.files import give_usual_rights, put_in_place, unfinished
from tamtctl.pruning.statistics.table import Statistic

_VERSION = 1  # raise it whenever the same batches would give other numbers to every statistic
_FACTS = "facts"  # one key: several would stand in any order


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
    return cache_dir() / "statistics" / f"{name}.safetensors"


def write(file: Path, statistic: Mapping[str, Tensor]) -> None:
    """Keep a statistic; where the cache cannot be written, it is gathered again next time.

    Args:
        file: What `file_of` returned.
        statistic: Name of a matrix → values; what several have in common is kept once.
    """
    first: dict[int, str] = {}
    same = {name: first.setdefault(id(values), name) for name, values in statistic.items()}
    tensors = {name: statistic[name].contiguous() for name in first.values()}
    facts = {_FACTS: json.dumps({"sha256": _sum_of(tensors), "same": same})}
    with suppress(OSError, SafetensorError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(file.parent, f".{file.name}-", is_folder=False) as new:
            save_file(tensors, new, metadata=facts)
            give_usual_rights(new)
            put_in_place(new, file)


def read(file: Path) -> dict[str, Tensor] | None:
    """Return a statistic; None if it is not there, or not as it was written."""
    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            facts = json.loads(content.metadata()[_FACTS])
        if facts["sha256"] != _sum_of(tensors):
            return None
        return {name: tensors[leader] for name, leader in facts["same"].items()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sum_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
