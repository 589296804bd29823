"""Other people's encoders with masked-LM heads of their own: the sweep, on rows of one line each.

``choose`` finds the learning rates of TAMT and of IMP, five each, at sparsity 0.7, by the loss on
a part of the *training* text; ``hours`` says how long the sweep takes; ``measure`` runs it on the
text that is held out. Each can be stopped and goes on. Reactions are held out as their authors did.
Antibody chains are near-duplicates of one another: a fifth is held out by a hash, and no chain is
trained on that has 90 % of its residues in common with one of those.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import hashlib
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tamtctl
from tamtctl.pruning.sparsities import imp_steps

SPARSITIES, SEEDS = "0.5,0.7,0.9", "1,2,3"
METHODS = "tamt-mlm,imp,obs,wanda,magnitude,random"
RATES = {"tamt": (0.01, 0.02, 0.03, 0.05, 0.1), "imp": (2e-4, 5e-4, 1e-3, 3e-3, 8e-3)}
CHOSEN_AT = 0.7
PRUNE_EVERY = 10  # steps between two cuts: 40, 60 and 80 steps to the three sparsities
SEQUENCES = 256  # held-out rows at most
IDENTITY = 0.9  # share of residues in common, of which a chain counts as known


@dataclass(frozen=True)
class Texts:
    """The lines that a model is searched on, those that settings are chosen on, and the rest."""

    train: Sequence[str]
    choice: Sequence[str]
    held_out: Sequence[str]


def main() -> bool:
    """Do what is asked for, and return that it could be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks other_models")
    parser.add_argument("step", choices=("choose", "hours", "measure"))
    parser.add_argument("model", choices=sorted(TEXTS), help="a folder of --models")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="holds reactions and antibodies")
    parser.add_argument("--out", type=Path, required=True, help="texts, recipes and chosen rates")
    options = parser.parse_args()
    folder = options.out / options.model
    if not (folder / "search.toml").is_file():
        _prepare(folder, options.models / options.model, TEXTS[options.model](options.data))
    if options.step == "choose":
        _choose(folder)
        return True
    sweep = f"compare --methods {METHODS} --sparsity {SPARSITIES} --seeds {SEEDS} --threads 1"
    command = [sys.executable, "-m", "tamtctl", *sweep.split()]
    command += ["--recipe", str(_measured_recipe(folder))]
    command += ["--dry-run"] if options.step == "hours" else []
    return subprocess.run(command, check=False).returncode == 0


def _prepare(folder: Path, model: Path, texts: Texts) -> None:
    """Write the texts, and the recipe of what is chosen."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "choice", "held_out"):
        lines = getattr(texts, name)
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    recipe = [
        'recipe = "fast"',
        f'model = "{model.resolve()}"',
        f'corpus = ["{folder.resolve()}/train.txt"]',
        'rows = "lines"',
        f"evaluation-blocks = {SEQUENCES}",
        "word-floor = 0",  # every residue and atom is in the text
        "[imp]",
        f"prune-every = {PRUNE_EVERY}",
        "",
    ]
    (folder / "search.toml").write_text("\n".join(recipe))


def _choose(folder: Path) -> None:
    """Search with each rate, print the losses on the choice, and write the rates that are best."""
    table = Table("method", "rate", "MLM loss on a part of the training text")
    best: dict[str, float] = {}
    for method, rates in RATES.items():
        losses = {}
        for rate in rates:
            config = tamtctl.SearchConfig.from_recipe(
                folder / "search.toml",
                method=method,
                sparsity=CHOSEN_AT,
                learning_rate=rate,
                held_out=(str(folder / "choice.txt"),),
                threads=1,
            )
            if method != "imp":  # which takes as many steps as its prunings need
                config = replace(config, steps=imp_steps(CHOSEN_AT, PRUNE_EVERY))
            losses[rate] = tamtctl.search(config).losses["ticket"]
            table.add_row(method, f"{rate:g}", f"{losses[rate]:.3f}")
        best[method] = min(losses, key=losses.__getitem__)
    Console().print(table)
    (folder / "rates.toml").write_text("".join(f"{m} = {rate}\n" for m, rate in best.items()))


def _measured_recipe(folder: Path) -> Path:
    """Write the recipe of the sweep: that of the choice, with its rates and the other text."""
    chosen = tomllib.loads((folder / "rates.toml").read_text())
    text = f'held-out = ["{folder.resolve()}/held_out.txt"]\n'
    text += (folder / "search.toml").read_text()  # ends in the table of imp
    text += f"learning-rate = {chosen['imp']}\n[tamt]\nlearning-rate = {chosen['tamt']}\n"
    (folder / "measure.toml").write_text(text)
    return folder / "measure.toml"


def _reactions(data: Path) -> Texts:
    def lines(name: str) -> list[str]:
        with (data / "reactions" / name).open(newline="") as file:
            return [row["reaction"] for row in csv.DictReader(file)]

    train = lines("train.csv")
    choice = {line for line in train if _share(line) < 0.1}
    return Texts([t for t in train if t not in choice], sorted(choice), lines("dev.csv"))


def _antibodies(data: Path) -> Texts:
    chains = (data / "antibodies" / "heavy.txt").read_text().split()
    held_out = {chain for chain in chains if _share(chain) < 0.2}
    rest = [c for c in dict.fromkeys(chains) if c not in held_out and not _is_known(c, held_out)]
    choice = {chain for chain in rest if _share(chain) < 0.3}
    train = [c for c in rest if c not in choice and not _is_known(c, choice)]
    return Texts(train, sorted(choice), sorted(held_out))


def _share(line: str) -> float:
    """Return a number from 0 to 1 that a line always has."""
    return int(hashlib.sha256(line.encode()).hexdigest()[:8], 16) / 16**8


def _is_known(chain: str, others: Collection[str]) -> bool:
    """Whether a chain has most of its residues in common with another, in the same order."""
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(chain)
    parts = _parts(chain)
    for other in others:
        if len(parts & _parts(other)) < 0.3 * len(parts):
            continue  # too few runs of three residues are alike
        matcher.set_seq1(other)
        if matcher.quick_ratio() >= IDENTITY and matcher.ratio() >= IDENTITY:
            return True
    return False


@cache
def _parts(chain: str) -> frozenset[str]:
    """Return the runs of three residues of a chain."""
    return frozenset(chain[at : at + 3] for at in range(len(chain) - 2))


TEXTS: dict[str, Callable[[Path], Texts]] = {
    "rxnfp-bert": _reactions,
    "rxnmapper-albert": _reactions,
    "sapiens-vh-roberta": _antibodies,
}
