"""Fine-tuning by rates, epochs and more: scores on parts held out of training sets.

A grid of trials is run, those of it that the file ``--out``, JSON lines, does not have yet. No dev
file is opened. The table in ``tickets/README.md`` is made so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Features
from tamtctl.foundations.devices import Compute
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.loading import load_tokenizer
from tamtctl.models.text_inputs import TextInputs
from tamtctl.pruning.one_shot import keep_counts, reference_masks
from tamtctl.tasks.finetuning.sparse_adam import SparseTraining
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.loading import load_for_training
from tamtctl.tasks.kinds.metrics import metrics
from tamtctl.tasks.kinds.predicting import predict
from tamtctl.tasks.labelled.opening import open_own_task, open_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import TASKS
from tamtctl.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of the grid."""

    model: str
    task: str
    sparsity: float
    examples: int
    rate: float
    epochs: int
    batch_size: int
    warm_up: float
    is_standardised: bool
    seed: int


def main() -> bool:
    """Run what is missing of a grid, print every trial as it ends, and return that all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--train", type=Path, help="an own file instead of --task")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--task", nargs="+", required=True)
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.0])
    parser.add_argument("--examples", nargs="+", type=int, required=True)
    parser.add_argument("--rate", nargs="+", type=float, required=True)
    parser.add_argument("--epochs", nargs="+", type=int, required=True)
    parser.add_argument("--batch-size", nargs="+", type=int, default=[32])
    parser.add_argument("--warm-up", nargs="+", type=float, default=[0.1])
    parser.add_argument("--raw-labels", nargs="+", type=int, default=[0])
    parser.add_argument("--seed", nargs="+", type=int, default=[1])
    parser.add_argument("--held-out", type=int, default=600, help="or a quarter of a smaller set")
    told = parser.parse_args()
    torch.set_num_threads(1)
    done = set()
    if told.out.exists():
        for line in told.out.read_text().splitlines():
            values = json.loads(line)
            done.add(Trial(**{name: values[name] for name in Trial.__dataclass_fields__}))
    for trial in _grid(told):
        if trial in done:
            continue
        started = time.perf_counter()
        found = _run(trial, _data(told, trial.task), told.held_out)
        row = asdict(trial) | found | {"seconds": round(time.perf_counter() - started)}
        with told.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        Console().print_json(data=row)
    return True


def _grid(told: argparse.Namespace) -> Iterator[Trial]:
    for model, task, n, epochs, size, warm, raw, sparsity, rate, seed in itertools.product(
        told.model, told.task, told.examples, told.epochs, told.batch_size, told.warm_up,
        told.raw_labels, told.sparsity, told.rate, told.seed,
    ):  # fmt: skip
        yield Trial(
            model=model, task=task, sparsity=sparsity, examples=n, rate=rate, epochs=epochs,
            batch_size=size, warm_up=warm, is_standardised=not raw, seed=seed,
        )  # fmt: skip


def _data(told: argparse.Namespace, task: str) -> TaskData:
    if task in TASKS:
        return open_task(TASKS[task], told.data_dir)
    return open_own_task(
        task,
        told.train,
        told.train,  # in place of a dev file, which is not read
        text_columns=[told.text_column],
        label_column=told.label_column,
    )


def _run(trial: Trial, data: TaskData, most: int) -> dict[str, Any]:
    """Train, and score on what is held out."""
    task = replace(data.task, batch_size=trial.batch_size, dev_splits={"": "held out"})
    examples = data.train()
    order = np.random.Generator(np.random.Philox(key=14)).permutation(len(examples)).tolist()
    count = min(most, len(examples) // 4)
    held_out = examples.take(sorted(order[:count]))
    train_set = examples.take(sorted(order[count:])).subset(trial.examples)
    kind = kind_of(task)
    scale = kind.scale_of(train_set.labels) if trial.is_standardised else None
    torch.manual_seed(trial.seed)
    model, _ = load_for_training(task, trial.model, scale=scale)
    pruned = _prune(model, trial.sparsity)
    inputs = TextInputs.of(model, load_tokenizer(trial.model), task.max_length)
    features = kind.encode(inputs, train_set).features
    if scale:
        features.labels = scale.standardised(features.labels)
    losses = _train(trial, task, model, pruned, features)
    compute = Compute.choose("cpu", "fp32", 1)
    encoded = kind.encode(inputs, held_out)
    values = predict(
        task, model, held_out, encoded, batch_size=64, autocast=compute.autocast, scale=scale
    ).values
    found = metrics(task, values, held_out)
    return {
        "score": round(found[task.primary_metric], 4),
        "loss": losses,
        "spread": _spread(values),
    }


def _spread(values: list[Any]) -> float:
    return round(float(np.std(values)), 4)


def _prune(model: PreTrainedModel, sparsity: float) -> dict[str, Tensor]:
    if not sparsity:
        return {}
    weights = {name: p.detach() for name, p in maskable_matrices(model).items()}
    pruned = {
        name: ~mask
        for name, mask in reference_masks(weights, keep_counts(weights, sparsity)).items()
    }
    for name, weight in weights.items():
        weight[pruned[name]] = 0
    return pruned


def _train(
    trial: Trial, task: Task, model: PreTrainedModel, pruned: dict[str, Tensor], features: Features
) -> list[float]:
    """Train as `tamtctl finetune` does; return the mean loss of each tenth of the steps."""
    steps = trial.epochs * -(-len(features) // trial.batch_size)
    training = SparseTraining(model, pruned, trial.rate, steps, int(trial.warm_up * steps))
    losses = []
    model.train()
    batches = features.training_batches(trial.batch_size, trial.seed)
    for step, batch in zip(range(steps), batches, strict=False):
        found = kind_of(task).loss(model, batch)
        found.backward()
        training.step(step)
        losses.append(float(found.detach()))
    return [round(float(np.mean(part)), 3) for part in np.array_split(losses, 10)]
