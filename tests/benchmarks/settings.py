"""Five settings of each method of ``compare --recipe nano``, judged on a part of the training text.

Methods that train try five rates; criteria learn from five amounts of text; magnitude and random
masks have nothing to set. A tenth of the documents that nano's searches train on, by a hash, is
kept from them here, and is what the settings are judged by.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import tamtctl
from tamtctl.data.text.documents import PYTHON_DOCS, Document, is_held_out
from tamtctl.data.text.sources import open_source
from tamtctl.pruning.sparsities import imp_steps

SPARSITY = 0.8
PRUNE_EVERY = 40  # as the recipe has it


@dataclass(frozen=True)
class Trials:
    """The settings of a method.

    Attributes:
        methods: The ``--method`` of each search.
        option: The setting that is tried.
        values: Its values.
        fixed: Other settings.
    """

    methods: Sequence[str]
    option: str
    values: Sequence[float]
    fixed: dict[str, Any]


TRIALS = (
    Trials(
        ("tamt",),
        "learning_rate",
        (0.01, 0.02, 0.03, 0.05, 0.1),
        {"steps": imp_steps(SPARSITY, PRUNE_EVERY)},  # as many as in the comparison
    ),
    Trials(("imp",), "learning_rate", (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2), {}),
    Trials(
        ("fisher", "obs", "wanda"),
        "calibration_tokens",
        (4_096, 16_384, 65_536, 131_072, 262_144),
        {},
    ),
)


def main() -> bool:
    """Search with each setting, print the losses, and return that it could be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks settings")
    parser.add_argument("--out", type=Path, required=True, help="a folder for texts and runs")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    (source,) = open_source(PYTHON_DOCS)
    known = [one for one in source.documents() if not is_held_out(one.key)]
    _write(out / "train.jsonl", (one for one in known if not _is_choice(one.key)))
    _write(out / "choice.jsonl", (one for one in known if _is_choice(one.key)))
    for trials in TRIALS:
        table = Table(trials.option, *map(str, trials.values))
        for method in trials.methods:
            losses = list(_losses(out, method, trials))
            best = min(losses)
            table.add_row(method, *(f"{x:.3f}" + " *" * (x == best) for x in losses))
            Console(stderr=True).print(f"{method}: {losses}")
        Console().print(table)
    return True


def _losses(out: Path, method: str, trials: Trials) -> Iterator[float]:
    """Yield the ticket's loss on the choice with each value."""
    for value in trials.values:
        tried: dict[str, Any] = trials.fixed | {trials.option: value}
        config = tamtctl.SearchConfig.from_recipe(
            "nano",
            method=method,
            sparsity=SPARSITY,
            corpus=(str(out / "train.jsonl"),),
            held_out=(str(out / "choice.jsonl"),),
            threads=1,
            **tried,
        )
        yield tamtctl.search(config, output_dir=out / f"{method}-{value:g}").losses["ticket"]


def _is_choice(key: str) -> bool:
    return int(hashlib.sha256(f"choice {key}".encode()).hexdigest()[:8], 16) < 0.1 * 16**8


def _write(file: Path, texts: Iterable[Document]) -> None:
    rows = [json.dumps({"id": one.key, "text": one.text}) for one in texts]
    file.write_text("".join(f"{row}\n" for row in rows))
