"""Fine-tuning: what a ticket costs in a step, and what grouping by length saves in an epoch.

Both are ratios of steps taken in turn in one run, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from tamtctl.features import TaskBatch
from tamtctl.finetuning import MaskedTraining
from tamtctl.models import load_tokenizer, maskable_matrices
from tamtctl.pruning import magnitude_masks
from tamtctl.task_data import Examples, open_task
from tamtctl.task_models import Encoding, load_for_training, loss
from tamtctl.tasks import TASKS, Task

STEP_GOAL, EPOCH_GOAL = 1.05, 2.0
_STEPS = 40
_REAL = Path(__file__).parents[3] / "shared" / "data" / "glue"

Step = Callable[[TaskBatch], None]


def main() -> bool:
    """Measure, print a table, and return whether both goals are met."""
    task, examples, source = _sentences()
    table = Table(title=f"fine-tuning nano on {source}, {torch.get_num_threads()} threads")
    for column in ("ratio of paired steps", "median", "goal", "met"):
        table.add_column(column)
    cost = ticket_to_dense(task, examples)
    saving = padded_to_grouped(task, examples)
    met = cost <= STEP_GOAL, saving >= EPOCH_GOAL
    rows = [
        ("step with a ticket / dense step", cost, f"≤ {STEP_GOAL}", met[0]),
        ("epoch padded to 128 / grouped by length", saving, f"≥ {EPOCH_GOAL}", met[1]),
    ]
    for name, value, goal, is_met in rows:
        table.add_row(name, f"{value:.3f}", goal, "yes" if is_met else "NO")
    Console().print(table)
    return all(met)


def ticket_to_dense(task: Task, examples: Examples) -> float:
    """Return the median over pairs of a step with a ticket at 0.7 over a dense step."""
    encoding, model = _encoding(task)
    batches = encoding.for_training(examples).training_batches(task.batch_size, seed=1)
    weights = {name: p.detach() for name, p in maskable_matrices(model).items()}
    pruned = {name: ~mask for name, mask in magnitude_masks(weights, 0.7).items()}
    with torch.no_grad():
        for name, weight in weights.items():
            weight[pruned[name]] = 0
    dense, masked = _step(task, _encoding(task)[1], {}), _step(task, model, pruned)
    return statistics.median(
        ours / yardstick
        for ours, yardstick in _paired(masked, dense, zip(batches, itertools.repeat(None)))
    )


def padded_to_grouped(task: Task, examples: Examples) -> float:
    """Return the time of an epoch padded to 128 over that of one grouped by length.

    Both are estimated from steps spread over the epoch: grouped batches differ in length.
    """
    encoding, model = _encoding(task)
    grouped = encoding.texts(examples).training_batches(task.batch_size, seed=1)
    padded = encoding.texts(examples, pad_to=128).training_batches(task.batch_size, seed=1)
    step = _step(task, model, {})
    pairs = list(_paired(step, step, zip(padded, grouped, strict=False)))
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs)


def _sentences() -> tuple[Task, Examples, str]:
    if (_REAL / "SST-2").is_dir():
        return TASKS["sst2"], open_task(TASKS["sst2"], _REAL).train(), "SST-2"
    data = open_task(TASKS["python-docs-topic"])
    return data.task, data.train(), "python-docs-topic (no ../shared/data here)"


def _encoding(task: Task) -> tuple[Encoding, PreTrainedModel]:
    torch.manual_seed(0)
    model, _ = load_for_training(task, "nano")
    return Encoding.of(replace(task, max_length=128), model, load_tokenizer("nano")), model.train()


def _step(task: Task, model: PreTrainedModel, pruned: Any) -> Step:
    training = MaskedTraining(model, pruned, learning_rate=1e-6, steps=10**6)

    def step(batch: TaskBatch) -> None:
        loss(task, model, batch).backward()
        training.step(0)

    return step


def _paired(
    ours: Step, yardstick: Step, batches: Iterator[tuple[TaskBatch, TaskBatch | None]]
) -> Iterator[tuple[float, float]]:
    """Yield seconds of both steps, taken in turn; on the same batch where there is only one."""
    for number, (batch, other) in enumerate(itertools.islice(batches, _STEPS + 3)):
        pair = [(ours, batch), (yardstick, other or batch)]
        seconds = []
        for step, given in pair if number % 2 else reversed(pair):
            started = time.perf_counter()
            step(given)
            seconds.append(time.perf_counter() - started)
        if number >= 3:  # the first ones warm up
            first, second = seconds if number % 2 else reversed(seconds)
            yield first, second
