"""Deriving a ticket of another sparsity from the scores that a search kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tamtctl.data.units import BLOCKS
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.latency.settings import OF_A_LATENCY
from tamtctl.pruning.methods import TAMT


def derived_config(run: Path | str, sparsity: float, **changes: Any) -> SearchConfig:
    """Return the configuration of a ticket derived from the scores of a search.

    Args:
        run: The folder of a search that kept its scores.
        sparsity: Share of zeros in the derived ticket.
        **changes: ``precision``, ``device`` or ``threads``; None leaves the search's value.

    Raises:
        UsageError: The folder holds no search by mask training.
    """
    told = SearchConfig.settled({"from_scores": run, "sparsity": sparsity})
    run = str(told["from_scores"])
    try:
        values = json.loads((expanded(run) / "config.json").read_text(encoding="utf-8"))
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        values.setdefault("rows", BLOCKS)  # the default, which the file leaves out
        config = SearchConfig(**values)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"--from-scores {run!r} is not the folder of a search; give one made with --keep-scores"
        ) from error
    if config.method != TAMT or not config.is_trained:
        raise UsageError(f"--from-scores {run!r} is not the run of a mask training")
    asked = {key: value for key, value in changes.items() if value is not None}
    no_latency: dict[str, Any] = dict.fromkeys(("latency", *OF_A_LATENCY))
    return replace(
        config,
        **told,
        **no_latency,
        eval_every=None,
        eval_steps=(),
        patience=None,
        **asked,
    )
