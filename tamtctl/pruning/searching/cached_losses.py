"""The cache of held-out losses of masks, keyed by everything that a loss depends on.

So a sweep measures the dense model and the baselines only once, in the first of its searches that
needs them, and the comparison at its end reuses what the searches measured. The key is a digest of
the model, the mask, every batch as the model gets it (so text, rows, length, limit and masked
tokens), the loss and its code, the device and the precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import transformers
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.foundations.cache import cache_folder, keep_if_possible
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.masks import pack
from tamtctl.models.content import content_digest
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.objectives import terms_of
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss
from tamtctl.pruning.objectives.pooling import sentence_pooling
from tamtctl.pruning.statistics.cached import digest_of
from tamtctl.training.run_folder import write_json

_VERSION = 7  # raise it whenever the same masks would give other losses

Losses = dict[str, HeldOutLoss]  # term → loss


@dataclass(frozen=True)
class CachedLosses:
    """The cached losses of one model.

    Attributes:
        models: Objective → digest of the model; with its head, and with the way in which it makes
            sentence embeddings, if the objective needs them.
        compute: Device and precision of the losses.
    """

    models: Mapping[str, str]
    compute: Compute

    @classmethod
    def of(cls, encoder: Encoder, objectives: Iterable[str], compute: Compute) -> Self:
        """Return the cache of a model as it was loaded, before anything is folded or trained."""
        parts = [terms for name in objectives for terms in terms_of(name).by_text]
        with_head = {terms.name: terms.need_head for terms in parts}
        digests = {
            needed: content_digest(encoder, with_head=needed) for needed in set(with_head.values())
        }
        models = {}
        for name, needed in with_head.items():
            pooling = sentence_pooling(encoder.id, encoder.revision, terms_of(name))
            models[name] = digests[needed] + (pooling.digest if pooling else "")
        return cls(models, compute)

    def file_of(
        self, objective: str, batches: Sequence[Batch], masks: Mapping[str, Tensor]
    ) -> Path | None:
        """Return the file in which losses of masks are kept; None if a term's code has no file.

        Args:
            objective: The objective, whose terms are measured in one forward pass.
            batches: The batches that the losses are taken on.
            masks: Name → boolean mask.
        """
        definition = definition_of([objective])
        if definition is None:
            return None
        identity = definition | {
            "model": self.models[objective],
            "text": digest_of(batches),
            "circumstances": self.compute.circumstances,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
        for name, mask in masks.items():
            digest.update(f"{name} {list(mask.shape)}".encode())
            digest.update(pack(mask.numpy(force=True)).tobytes())
        return cache_folder("losses") / f"{digest.hexdigest()}.json"


def definition_of(objectives: Iterable[str]) -> dict[str, Any] | None:
    """Return what defines the losses of objectives, as JSON; None if a term's code has no file."""
    terms = [term for name in objectives for term in terms_of(name)]
    if not all(term.is_in_files for term in terms):
        return None
    codes = {term.name: [term.version, term.code_digest()] for term in terms}
    libraries = [torch.__version__, transformers.__version__]
    return {"version": _VERSION, "libraries": libraries, "terms": codes}


def write(file: Path, losses: Losses) -> None:
    """Write losses to the cache; if that fails, they are measured again next time."""
    keep_if_possible(file, lambda path: write_json(path, to_dict(losses)))


def read(file: Path, terms: Iterable[str]) -> Losses | None:
    """Return the losses of all these terms; None if one is missing or damaged."""
    try:
        return from_dict(json.loads(file.read_text(encoding="utf-8")), terms)
    except (OSError, ValueError, RecursionError):
        return None


def to_dict(losses: Losses) -> dict[str, Any]:
    """Return plain JSON values."""
    return {
        term: {"sums": loss.sums.tolist(), "counts": loss.counts.tolist()}
        for term, loss in losses.items()
    }


def from_dict(values: Any, terms: Iterable[str]) -> Losses | None:
    """Return the losses that `to_dict` wrote; None if a term is missing or damaged."""
    terms = tuple(terms)
    try:
        return {  # in the order of ``terms``, which a file does not keep
            term: HeldOutLoss(
                np.array(values[term]["sums"], np.float64),
                np.array(values[term]["counts"], np.int64),
                terms_of("+".join(terms)).group_size,
            )
            for term in terms
        }
    except (ValueError, KeyError, TypeError):
        return None
