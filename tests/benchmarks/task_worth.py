"""What a ticket is worth on a task after fine-tuning, beside every baseline and an upper bound.

``hours`` says how long the grid takes; ``measure`` runs it, or a ``--shard`` of its comparisons,
and can be stopped and goes on. A grid has three parts, for each number of training examples:

- all methods, with the grid's seeds of the mask and three of fine-tuning;
- for each sparsity a ticket that knows the task (`task_bound`), with three seeds of fine-tuning;
- the model with random weights, with three seeds of fine-tuning: what pre-training is worth at all.

Each mask tries five learning rates on a held-out part of the *training* set, but not with few
shots: on 20 held-out examples the masks chose rates from 5·10⁻⁵ to 1.7·10⁻³, which decided their
order. There all take the rule of ``finetune``, which was fitted on the dense model. The one-shot
criterion of a grid is the best of its model by what was measured before on held-out text: Fisher of
nano and of the chemistry BERT, Wanda of all-MiniLM-L6-v2, which is at its best with the same
sparsity in every matrix.

Masks are searched on text that is not the task's: on Wikipedia, and the chemistry BERT's on the
reactions of the training file without their classes. On one core, ``sst2`` takes half an hour of
searches and 89 minutes of fine-tuning; ``few-shots`` 12 minutes, and 12, 21 and 55 for 100, 300 and
1,000 examples; ``reactions`` 20 minutes and 88 hours, and ``reactions-few``, on 320 examples at the
rate of the rule, 3 minutes and 2 hours for each sparsity. ``topic-few`` asks nano for something
that its pre-training could have taught it: which part of the standard library a paragraph of the
documentation is about, from 1,000 examples at the rate of the rule; about an hour. ``stsb`` and
``mrpc`` fine-tune all-MiniLM-L6-v2 on 5,000 pairs of sentences at the rate of the rule. In fp32 on
a core that other work used, too, ``hours`` says 6 and 13.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from transformers import AutoModelForMaskedLM

from tamtctl.models.loading import load_config, load_tokenizer

from .reactions import write_reactions

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
        examples: Most training examples, between commas.
        methods: The methods of the comparison.
        mask_seeds: Seeds of a search.
        finds_rate: Whether each mask tries five learning rates.
        text: Settings of the search's recipe; ``{data}`` and ``{out}`` stand for folders.
        precision: The precision of searches and fine-tuning; those without are in fp32.
    """

    model: str
    task: str
    sparsities: str
    data: str
    text: tuple[str, ...]
    own: tuple[str, str, tuple[str, ...], str] | None = None
    examples: str = "10000"
    methods: str = "tamt-mlm,tamt-kd,imp,fisher,magnitude,random"
    mask_seeds: str = SEEDS
    finds_rate: bool = True
    precision: str | None = None


_PAIRS = ("train.jsonl", "dev.jsonl", ("sentence1", "sentence2"), "label")
_WIKIPEDIA = (
    'recipe = "nano"',
    'corpus = ["{data}/wikipedia/train-small.txt.xz"]',
    'held-out = ["{data}/wikipedia/valid.txt.xz"]',
)
_SENTENCES = (
    'recipe = "fast"',
    'corpus = ["{data}/wikipedia/train-small.txt.xz"]',
    'held-out = ["{data}/wikipedia/valid.txt.xz"]',
    "batch-size = 32",
    "[imp]",
    "prune-every = 100",
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
    "topic-few": Grid(
        "nano", "python-docs-topic", "0.7", "", _WIKIPEDIA,
        examples="1000", mask_seeds="1", finds_rate=False,
    ),
    "reactions": Grid(
        "rxnfp-bert", "reaction-classes", "0.5,0.7,0.9", "reactions", _REACTIONS,
        ("train.csv", "dev.csv", ("reaction",), "class"),
    ),
    "reactions-few": Grid(
        "rxnfp-bert", "reaction-classes", "0.9,0.7", "reactions",
        _REACTIONS, ("train.csv", "dev.csv", ("reaction",), "class"),
        examples="320", mask_seeds="1", finds_rate=False, precision="bf16",
    ),
    "stsb": Grid(
        "all-MiniLM-L6-v2", "stsb", "0.7", "glue", _SENTENCES, examples="5000",
        methods="tamt-kd+embedding,wanda,magnitude,random", mask_seeds="1", finds_rate=False,
        precision="bf16",
    ),
    "mrpc": Grid(
        "all-MiniLM-L6-v2", "mrpc", "0.7", "glue", _SENTENCES, examples="5000",
        methods="tamt-kd+embedding,wanda,magnitude,random", mask_seeds="1", finds_rate=False,
        precision="bf16",
    ),
    "few-shots": Grid(
        "all-MiniLM-L6-v2", "sst2", "0.7", "glue", ('allocation = "uniform"', *_SENTENCES),
        examples="100,300,1000",
        methods="tamt-kd+embedding,wanda,magnitude,random", mask_seeds="1", finds_rate=False,
        precision="bf16",
    ),
}  # fmt: skip


def main() -> bool:
    """Do what is asked for, and return that it could be done."""
    parser = argparse.ArgumentParser("task_worth", description=__doc__)
    parser.add_argument("step", choices=("hours", "measure"))
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="glue, wikipedia and reactions")
    parser.add_argument("--examples", help="other numbers of training examples, between commas")
    parser.add_argument("--sparsity", help="other sparsities, between commas")
    parser.add_argument("--precision", help="fp32 on a CPU that has no units for bf16")
    parser.add_argument("--shard", help="only this part of the comparisons, as in compare")
    told = parser.parse_args()
    grid = GRIDS[told.grid]
    if told.examples:
        grid = replace(grid, examples=told.examples)
    if told.sparsity:
        grid = replace(grid, sparsities=told.sparsity)
    if told.precision:
        grid = replace(grid, precision=told.precision)
    commands = _sweeps(grid, told) if told.step == "hours" else _measurements(grid, told)
    for command in commands:
        Console().print("tamtctl" if command[0] == "tamtctl" else "python", *command[1:])
        words = ["-m", *command]
        if told.step == "hours":
            words.append("--dry-run")
        if subprocess.run([sys.executable, *words], check=False).returncode != 0:
            return False
    return True


def _sweeps(grid: Grid, told: argparse.Namespace) -> Iterator[list[str]]:
    recipe = _recipe(grid, told)
    for examples in grid.examples.split(","):
        sweep = ["tamtctl", "compare", "--recipe", str(recipe), "--methods", grid.methods]
        sweep += ["--sparsity", grid.sparsities, "--seeds", grid.mask_seeds, "--threads", "1"]
        sweep += ["--tasks", grid.task, *_data(grid, told, "--task-text-column")]
        sweep += ["--limit", examples, "--task-seeds", SEEDS]
        sweep += ["--find-task-learning-rate"] * grid.finds_rate
        yield [*sweep, "--shard", told.shard] if told.shard else sweep


def _measurements(grid: Grid, told: argparse.Namespace) -> Iterator[list[str]]:
    yield from _sweeps(grid, told)
    if told.shard:
        return
    untrained = Path(f"untrained-{grid.model}")
    if not untrained.exists():
        _save_untrained(_model(grid, told), untrained)
    for examples in grid.examples.split(","):
        for sparsity in grid.sparsities.split(","):
            bound = f"knows-{grid.task}-{sparsity}-{examples}"
            if not Path(bound).exists():
                yield _bound(grid, told, sparsity, examples, bound)
            yield _finetuning(grid, told, examples, "--ticket", bound)
        yield _finetuning(grid, told, examples, "--dense", "--model", str(untrained))


def _bound(
    grid: Grid, told: argparse.Namespace, sparsity: str, examples: str, folder: str
) -> list[str]:
    words = ["--model", _model(grid, told), "--task", grid.task, "--sparsity", sparsity]
    words += ["--limit", examples, *_data(grid, told, "--text-column"), "--to", folder]
    return ["tests.benchmarks", "task_bound", *words, "--threads", "1"]


def _finetuning(grid: Grid, told: argparse.Namespace, examples: str, *which: str) -> list[str]:
    words = ["tamtctl", "finetune", grid.task, *which, "--seeds", SEEDS, "--limit", examples]
    words += [*_data(grid, told, "--text-column"), "--threads", "1"]
    words += ["--find-learning-rate"] * grid.finds_rate
    return [*words, "--precision", grid.precision] if grid.precision else words


def _save_untrained(model: str, folder: Path) -> None:
    torch.manual_seed(1)
    network = AutoModelForMaskedLM.from_config(load_config(model))
    network.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)


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
    preset, *rest = grid.text
    model = [] if grid.model == "nano" else [f'model = "{_model(grid, told)}"']
    if grid.data == "reactions":
        write_reactions(told.data / "reactions")
    precision = [f'precision = "{grid.precision}"'] if grid.precision else []
    text = "\n".join([preset, *model, *precision, *rest, ""])
    recipe = Path(f"{told.grid}.toml")
    recipe.write_text(text.format(data=told.data.resolve(), out=Path.cwd()))
    return recipe
