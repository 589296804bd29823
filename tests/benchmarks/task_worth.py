"""What a ticket is worth on a task after fine-tuning, beside every baseline and an upper bound.

``hours`` says how long the grid takes; ``measure`` runs it, or a ``--shard`` of its first part, and
can be stopped and goes on. A grid has three parts:

- all methods, three seeds of the mask and three of fine-tuning;
- for each sparsity a ticket that knows the task (`task_bound`), with three seeds of fine-tuning;
- the model with random weights, with three seeds of fine-tuning: what pre-training is worth at all.

Each mask tries five learning rates on a held-out part of the *training* set. Fisher is the best
one-shot criterion of nano and of the chemistry BERT, by the loss on held-out text.

Masks are searched on text that is not the task's: nano's on Wikipedia, the chemistry BERT's on the
reactions of the training file without their classes. On one core, ``sst2`` takes half an hour of
searches and 89 minutes of fine-tuning.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from transformers import AutoModelForMaskedLM

from tamtctl.models.loading import load_config, load_tokenizer

METHODS = "tamt-mlm,tamt-kd,imp,fisher,magnitude,random"
SEEDS = "1,2,3"


@dataclass(frozen=True)
class Grid:
    """A model and a task.

    Attributes:
        model: ``nano``, or a folder of ``--models``.
        task: The task's name.
        sparsities: The sparsities, between commas.
        data: A folder of ``--data`` with the task's files; for a task of your own, the folder of
            ``train`` and ``dev``.
        own: For a task of your own, the names of its files, its columns of text and of labels.
        examples: Most training examples.
        text: Settings of the search's recipe; ``{data}`` and ``{out}`` stand for folders.
    """

    model: str
    task: str
    sparsities: str
    data: str
    text: tuple[str, ...]
    own: tuple[str, str, tuple[str, ...], str] | None = None
    examples: int = 10_000


_PAIRS = ("train.jsonl", "dev.jsonl", ("sentence1", "sentence2"), "label")
_WIKIPEDIA = (
    'recipe = "nano"',
    'corpus = ["{data}/wikipedia/train-small.txt.xz"]',
    'held-out = ["{data}/wikipedia/valid.txt.xz"]',
)
_REACTIONS = (
    'recipe = "fast"',
    'corpus = ["{out}/reactions.txt"]',
    'rows = "lines"',
    "word-floor = 0",
    "[tamt]",
    "learning-rate = 0.05",  # the best of five in `other_models`, as is that of imp
    "[imp]",
    "prune-every = 10",
    "learning-rate = 5e-4",
)
GRIDS = {
    "sst2": Grid("nano", "sst2", "0.7,0.9", "glue", _WIKIPEDIA),
    "qnli": Grid("nano", "qnli-10k", "0.7,0.9", "glue/QNLI-10k-subset", _WIKIPEDIA, _PAIRS),
    "mnli": Grid("nano", "mnli-10k", "0.7,0.9", "glue/MNLI-10k-subset", _WIKIPEDIA, _PAIRS),
    "topic": Grid("nano", "python-docs-topic", "0.7,0.9", "", _WIKIPEDIA),
    "reactions": Grid(
        "rxnfp-bert", "reaction-classes", "0.5,0.7,0.9", "reactions", _REACTIONS,
        ("train.csv", "dev.csv", ("reaction",), "class"),
    ),
}  # fmt: skip


def main() -> bool:
    """Do what is asked for, and return that it could be done."""
    parser = argparse.ArgumentParser("task_worth", description=__doc__)
    parser.add_argument("step", choices=("hours", "measure"))
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="glue, wikipedia and reactions")
    parser.add_argument("--examples", type=int, help="fewer training examples")
    parser.add_argument("--shard", help="only this part of the first comparison, as in compare")
    told = parser.parse_args()
    grid = GRIDS[told.grid]
    commands = [_sweep(grid, told)] if told.step == "hours" else _measurements(grid, told)
    for command in commands:
        Console().print("tamtctl" if command[0] == "tamtctl" else "python", *command[1:])
        words = ["-m", *command]
        if told.step == "hours":
            words.append("--dry-run")
        if subprocess.run([sys.executable, *words], check=False).returncode != 0:
            return False
    return True


def _sweep(grid: Grid, told: argparse.Namespace) -> list[str]:
    sweep = ["tamtctl", "compare", "--recipe", str(_recipe(grid, told)), "--methods", METHODS]
    sweep += ["--sparsity", grid.sparsities, "--seeds", SEEDS, "--threads", "1"]
    sweep += ["--tasks", grid.task, *_data(grid, told, "--task-text-column"), *_limit(grid, told)]
    sweep += ["--task-seeds", SEEDS, "--find-task-learning-rate"]
    return [*sweep, "--shard", told.shard] if told.shard else sweep


def _measurements(grid: Grid, told: argparse.Namespace) -> Iterator[list[str]]:
    yield _sweep(grid, told)
    if told.shard:
        return
    for sparsity in grid.sparsities.split(","):
        bound = f"knows-{grid.task}-{sparsity}"
        if not Path(bound).exists():
            words = ["--model", _model(grid, told), "--task", grid.task, "--sparsity", sparsity]
            words += [*_limit(grid, told), *_data(grid, told, "--text-column"), "--to", bound]
            yield ["tests.benchmarks", "task_bound", *words, "--threads", "1"]
        yield _finetuning(grid, told, "--ticket", bound)
    untrained = Path(f"untrained-{grid.model}")
    if not untrained.exists():
        _save_untrained(_model(grid, told), untrained)
    yield _finetuning(grid, told, "--dense", "--model", str(untrained))


def _finetuning(grid: Grid, told: argparse.Namespace, *which: str) -> list[str]:
    words = ["tamtctl", "finetune", grid.task, *which, "--seeds", SEEDS, *_limit(grid, told)]
    return [*words, *_data(grid, told, "--text-column"), "--find-learning-rate", "--threads", "1"]


def _save_untrained(model: str, folder: Path) -> None:
    torch.manual_seed(1)
    network = AutoModelForMaskedLM.from_config(load_config(model))
    network.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)


def _limit(grid: Grid, told: argparse.Namespace) -> list[str]:
    return ["--limit", str(told.examples or grid.examples)]


def _data(grid: Grid, told: argparse.Namespace, text_column: str) -> list[str]:
    folder = told.data.resolve() / grid.data
    if grid.own is None:
        return ["--data-dir", str(folder)] if grid.data else []
    train, dev, columns, label = grid.own
    words = ["--train", str(folder / train), "--dev", str(folder / dev), "--label-column", label]
    return [*words, *(word for column in columns for word in (text_column, column))]


def _model(grid: Grid, told: argparse.Namespace) -> str:
    return "nano" if grid.model == "nano" else str(told.models.resolve() / grid.model)


def _recipe(grid: Grid, told: argparse.Namespace) -> Path:
    """Write the recipe of the searches, and the reactions as text of one a line."""
    lines: Sequence[str] = grid.text
    if grid.model != "nano":
        lines = [lines[0], f'model = "{_model(grid, told)}"', *lines[1:]]
        with (told.data / "reactions" / "train.csv").open(newline="") as file:
            rows = [row["reaction"] for row in csv.DictReader(file)]
        Path("reactions.txt").write_text("\n".join([*rows, ""]))
    text = "\n".join([*lines, ""])
    recipe = Path(f"{grid.task}.toml")
    recipe.write_text(text.format(data=told.data.resolve(), out=Path.cwd()))
    return recipe
