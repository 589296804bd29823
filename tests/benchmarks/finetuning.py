"""Fine-tuning: what a ticket costs in a step, and what grouping by length saves in an epoch.

Both are ratios of steps taken in turn in one run, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import TaskBatch
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.loading import load_tokenizer
from tamtctl.models.text_inputs import TextInputs
from tamtctl.pruning.one_shot import keep_counts, reference_masks
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.sparse_adam import SparseTraining
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.loading import load_for_training
from tamtctl.tasks.labelled.opening import open_task
from tamtctl.tasks.registry import TASKS
from tamtctl.tasks.task import Task

STEP_GOAL, EPOCH_GOAL = 1.05, 2.0
_LENGTH = 128  # tokens of an example, at most
_PAIRS, _EPOCH_PAIRS = 100, 30
_EXAMPLES = 6000  # a random part of the training set: lengths are spread as in the whole
_REAL = Path(__file__).parents[3] / "shared" / "data" / "glue"

Step = Callable[[TaskBatch], None]


def main() -> bool:
    """Measure, print a table, and return whether both goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, help="1 on a machine that is busy with other work")
    if threads := parser.parse_args().threads:
        torch.set_num_threads(threads)
    task, examples, source = _sentences()
    table = Table(title=f"fine-tuning nano on {source}, {torch.get_num_threads()} threads")
    for column in ("ratio of paired steps", "median", "goal", "met"):
        table.add_column(column)
    control, cost = ticket_to_dense(task, examples, 0.0), ticket_to_dense(task, examples, 0.7)
    saving = padded_to_grouped(task, examples)
    met = cost <= STEP_GOAL, saving >= EPOCH_GOAL
    rows = [
        ("dense step / dense step (the noise)", control, "", ""),
        ("step with a ticket / dense step", cost, f"≤ {STEP_GOAL}", "yes" if met[0] else "NO"),
        ("epoch padded to 128 / grouped", saving, f"≥ {EPOCH_GOAL}", "yes" if met[1] else "NO"),
    ]
    for name, value, goal, is_met in rows:
        table.add_row(name, f"{value:.3f}", goal, is_met)
    Console().print(table)
    return all(met)


def ticket_to_dense(task: Task, examples: Examples, sparsity: float) -> float:
    """Return the median over pairs of a step with a ticket over a dense step; 0 is no ticket."""
    inputs, model = _inputs_and_model(task)
    features = kind_of(task).encode(inputs, examples).features
    batches = features.training_batches(task.batch_size, seed=1)
    pruned: dict[str, Tensor] = {}
    if sparsity:
        weights = {name: p.detach() for name, p in maskable_matrices(model).items()}
        pruned = {
            name: ~mask
            for name, mask in reference_masks(weights, keep_counts(weights, sparsity)).items()
        }
        for name, weight in weights.items():
            weight[pruned[name]] = 0
    dense, masked = _step(task, _inputs_and_model(task)[1], {}), _step(task, model, pruned)
    pairs = _paired(masked, dense, ((batch, batch) for batch in batches), _PAIRS)
    return statistics.median(ours / yardstick for ours, yardstick in pairs)


def padded_to_grouped(task: Task, examples: Examples) -> float:
    """Return the time of an epoch padded to 128 over that of one grouped by length.

    Both are estimated from steps spread over the epoch: grouped batches differ in length.
    """
    inputs, model = _inputs_and_model(task)
    features = kind_of(task).encode(inputs, examples).features
    grouped = features.training_batches(task.batch_size, seed=1)
    step = _step(task, model, {})
    batches = ((_padded(batch), batch) for batch in grouped)
    pairs = list(_paired(step, step, batches, _EPOCH_PAIRS))
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs)


def _sentences() -> tuple[Task, Examples, str]:
    if (_REAL / "SST-2").is_dir():
        return TASKS["sst2"], open_task(TASKS["sst2"], _REAL).train().subset(_EXAMPLES), "SST-2"
    data = open_task(TASKS["python-docs-topic"])
    return data.task, data.train(), "python-docs-topic (no ../shared/data here)"


def _padded(batch: TaskBatch) -> TaskBatch:
    """Return a batch padded to as many tokens as an example may have."""
    inputs = {name: F.pad(v, (0, _LENGTH - v.shape[1])) for name, v in batch.inputs.items()}
    return replace(batch, inputs=inputs)


def _inputs_and_model(task: Task) -> tuple[TextInputs, PreTrainedModel]:
    torch.manual_seed(0)
    model, _ = load_for_training(task, "nano")
    return TextInputs.of(model, load_tokenizer("nano"), _LENGTH), model.train()


def _step(task: Task, model: PreTrainedModel, pruned: Mapping[str, Tensor]) -> Step:
    training = SparseTraining(model, pruned, learning_rate=1e-6, steps=10**6)

    def step(batch: TaskBatch) -> None:
        kind_of(task).loss(model, batch).backward()
        training.step(0)

    return step


def _paired(
    ours: Step, yardstick: Step, batches: Iterator[tuple[TaskBatch, TaskBatch]], count: int
) -> Iterator[tuple[float, float]]:
    """Yield seconds of both steps, taken in turn, each on its own of two batches."""
    for number, (batch, other) in enumerate(itertools.islice(batches, count + 3)):
        pair = [(ours, batch), (yardstick, other)]
        seconds = []
        for step, given in pair if number % 2 else reversed(pair):
            started = time.perf_counter()
            step(given)
            seconds.append(time.perf_counter() - started)
        if number >= 3:  # the first ones warm up
            first, second = seconds if number % 2 else reversed(seconds)
            yield first, second
