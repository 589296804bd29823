"""The cache of statistics, keyed by everything that a statistic depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.foundations.cache import cache_folder, keep_if_possible
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.tensor_files import write_tensors
from tamtctl.pruning.statistics.table import Statistic

_VERSION = 4  # raise it whenever the same batches would give other values of all statistics
_FACTS = "facts"  # a single key, since the order of several is not fixed


@dataclass(frozen=True)
class CachedStatistic:
    """A statistic, and the time that it took.

    Attributes:
        values: Name of a matrix → values; matrices with equal values share one tensor.
        seconds: Seconds of the pass that gathered it; several statistics may share a pass.
    """

    values: Mapping[str, Tensor]
    seconds: float


def digest_of(batches: Sequence[Batch]) -> str:
    """Return the digest of batches as a model gets them, order and masked tokens included."""
    digest = hashlib.sha256()
    for batch in batches:
        for field in dataclasses.fields(batch):
            if isinstance(tensor := getattr(batch, field.name), Tensor):
                digest.update(f"{field.name} {list(tensor.shape)}".encode())
                digest.update(tensor.numpy(force=True).tobytes())
    return digest.hexdigest()


def file_of(
    row: Statistic, model: str, matrices: Sequence[str], text: str, on: Compute
) -> Path | None:
    """Return the file in which a statistic is kept; None if its code has no file.

    Args:
        row: The statistic.
        model: Digest of the model.
        matrices: Names of the matrices that it covers.
        text: Digest of the text.
        on: Where it is gathered; its bits depend on the number of threads, too.
    """
    if not row.is_in_files:
        return None
    facts = [
        _VERSION, torch.__version__, transformers.__version__, row.name, row.version,
        row.code_digest(), model, list(matrices), text, on.circumstances,
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return cache_folder("statistics") / f"{name}.safetensors"


def write(file: Path, statistic: CachedStatistic) -> None:
    """Write a statistic to the cache; if that fails, it is gathered again next time.

    Args:
        file: What `file_of` returned.
        statistic: The statistic; a tensor that several matrices share is written once.
    """
    first: dict[int, str] = {}
    same = {name: first.setdefault(id(values), name) for name, values in statistic.values.items()}
    tensors = {name: statistic.values[name].contiguous() for name in first.values()}
    told = {"sha256": _sum_of(tensors), "same": same, "seconds": statistic.seconds}
    facts = {_FACTS: json.dumps(told)}
    with suppress(SafetensorError):
        keep_if_possible(file, lambda path: write_tensors(path, tensors, facts))


def read(file: Path) -> CachedStatistic | None:
    """Return a statistic; None if it is missing or damaged."""
    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            facts = json.loads(content.metadata()[_FACTS])
        if facts["sha256"] != _sum_of(tensors):
            return None
        values = {name: tensors[leader] for name, leader in facts["same"].items()}
        return CachedStatistic(values, float(facts["seconds"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sum_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
