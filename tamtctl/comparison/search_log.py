"""What the log of a search says of its way: losses, flips and seconds, step by step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Self

from tamtctl.pruning.searching.result import SearchResult
from tamtctl.training.run_folder import METRICS


@dataclass(frozen=True)
class SearchLog:
    """The logged steps of a search.

    Attributes:
        training: Step → mean training losses by term since the logged step before.
        flips: Step → share of the mask that differs from the initial one.
        seconds: Step → seconds of training up to it.
        held_out: Step → held-out losses by term, where they were evaluated.
    """

    training: dict[int, dict[str, float]] = field(default_factory=dict)
    flips: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    held_out: dict[int, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, search: SearchResult) -> Self:
        """Read the log in the folder of a search; it is empty if it cannot be read."""
        log = cls()
        try:
            lines = (search.run_folder / METRICS).read_text(encoding="utf-8").splitlines()
            for row in map(json.loads, lines):
                step = int(row["step"])
                log.training[step], log.flips[step] = dict(row["terms"]), float(row["flips"])
                log.seconds[step] = float(row["seconds"])
                if row["eval_losses"]:
                    log.held_out[step] = dict(row["eval_losses"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
        return log
