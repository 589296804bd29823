"""Losses of masks that were measured before: kept in the cache, under what they follow from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from tamtctl.foundations.cache import cache_folder
from tamtctl.foundations.masks import pack
from tamtctl.pruning.objectives import TERMS
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss
from tamtctl.training.run_folder import write_json


def file_of(identity: Mapping[str, object], masks: Mapping[str, Tensor]) -> Path:
    """Return where the losses of masks are kept.

    Args:
        identity: What they depend on besides the masks, as plain JSON values.
        masks: Name → boolean mask.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for name, mask in masks.items():
        digest.update(name.encode())
        digest.update(pack(mask.numpy(force=True)).tobytes())
    return cache_folder("losses") / f"{digest.hexdigest()}.json"


def write(file: Path, losses: Mapping[str, HeldOutLoss]) -> None:
    """Keep term → loss."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        file,
        {
            term: {
                "sums": loss.sums.tolist(),
                "counts": loss.counts.tolist(),
                "version": TERMS[term].version,
            }
            for term, loss in losses.items()
        },
    )


def read(file: Path, terms: tuple[str, ...]) -> dict[str, HeldOutLoss] | None:
    """Return the losses of some terms; None if they are not there, or of another version."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if any(values[term].get("version", 1) != TERMS[term].version for term in terms):
            return None
        return {  # in this order, which the file does not keep
            term: HeldOutLoss(
                np.array(values[term]["sums"], np.float64),
                np.array(values[term]["counts"], np.int64),
            )
            for term in terms
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None
