"""What keeping zeros costs in anybody's training: the time of a step with and without.

The model is of BERT-base's shapes with random weights, its mask random, its optimiser AdamW. Steps
with and without alternate, so that what else the machine does meets both; the medians are compared.
On a CPU it is the time of the processor that counts, which other work lengthens less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from tamtctl.models.encoder import maskable_matrices
from tamtctl.pruning.one_shot import keep_counts, reference_masks
from tamtctl.ticket.keeping import keep_masked

GOAL = 1.1  # times a step without


def main() -> bool:
    """Measure, print a table, and return whether the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks keeping")
    parser.add_argument("--layers", type=int, default=12, help="of BERT-base's twelve")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    steps = {}
    for kept in (False, True):
        steps[kept] = _step(
            options.layers, options.batch_size, options.tokens, options.device, kept=kept
        )
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.steps):
        for kept, step in steps.items():
            seconds[kept].append(step())
    without, with_kept = (statistics.median(seconds[kept][2:]) for kept in (False, True))
    table = Table(title=f"a step of {options.batch_size} × {options.tokens} tokens, AdamW")
    for column in ("device", "without", "with zeros kept", "ratio"):
        table.add_column(column)
    device = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    table.add_row(
        device, f"{without:.4f} s", f"{with_kept:.4f} s", f"{with_kept / without:.3f}"
    )  # fmt: skip
    Console(width=100).print(table)
    return with_kept / without <= GOAL


def _step(
    layers: int, batch_size: int, tokens: int, device: str, *, kept: bool
) -> Callable[[], float]:
    """Return a function that does a step and says how long it took."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=layers)).train()
    cast(nn.Module, model).to(device)
    if kept:
        weights = {name: p.detach() for name, p in maskable_matrices(model).items()}
        keep_masked(model, reference_masks(weights, keep_counts(weights, 0.7)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids = torch.randint(1000, 30000, (batch_size, tokens), device=device)
    labels = torch.randint(2, (batch_size,), device=device)

    def step() -> float:
        started = _now(device)
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return _now(device) - started

    return step


def _now(device: str) -> float:
    if torch.device(device).type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
