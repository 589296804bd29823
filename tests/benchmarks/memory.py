"""Memory of a mask training step at BERT-base's size, beside a dense training step's.

Every variant runs in a process of its own. Measured are the peaks of all memory in use and of
anonymous memory, above what there is after the imports: pages of a mapped file give way where
memory is short, anonymous ones do not. Stated is what the tensors that live from step to step, and
the gradients, take for every weight that is masked.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from .search import Ours, Shape, batches_of, dense_step

SHAPE = Shape(12, 768, 4, {"mlm": 0.90})
STEPS = 4
MORE_THAN_DENSE, LOW_MEMORY = 1.6, 1.0  # times dense training, at most
# Bytes per weight: weights, gradients, scores and Adam's two moments are 4 each. The initial mask
# is a bit; the present one follows from the scores.
STATED = {
    "dense": "16: weights, gradients, 2 moments",
    "mask": "20: frozen, folded (or gradients), scores, 2 moments",
    "mask, low memory": "14, and 4 in a file",  # first moments are 2
}


def main() -> bool:
    """Measure, print a table, and return whether both goals are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks memory")
    parser.add_argument("--variant", choices=STATED, help="only this one, as JSON")
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(_measure(options.variant)))  # noqa: T201
        return True
    found = {variant: _in_own_process(variant) for variant in STATED}
    table = Table("training", "bytes per weight", title=f"{SHAPE}, 4x128 tokens")
    table.title_justify = "left"
    for column in ("peak MiB", "÷ dense", "anonymous MiB", "÷ dense", "ms a step"):
        table.add_column(column, justify="right")
    for variant, numbers in found.items():
        ratios = {key: numbers[key] / found["dense"][key] for key in ("peak", "anonymous")}
        table.add_row(
            variant, STATED[variant],
            f"{numbers['peak']:,.0f}", f"{ratios['peak']:.2f}",
            f"{numbers['anonymous']:,.0f}", f"{ratios['anonymous']:.2f}",
            f"{numbers['seconds'] * 1e3:.0f}",
        )  # fmt: skip
    dense, ours, low_memory = found.values()
    met = (
        ours["peak"] <= MORE_THAN_DENSE * dense["peak"],
        low_memory["anonymous"] <= LOW_MEMORY * dense["anonymous"],
    )
    console = Console(width=140)
    console.print(table)
    console.print(f"at most {MORE_THAN_DENSE} times dense training: {met[0]}")
    console.print(f"with --low-memory, less anonymous memory than dense training: {met[1]}")
    return all(met)


def _in_own_process(variant: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks", "memory", "--variant", variant]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def _measure(variant: str) -> dict[str, float]:
    seconds = []

    def train() -> None:
        step: Callable[[], Any] = (
            dense_step(SHAPE, batches_of(SHAPE), at_masked=False)
            if variant == "dense"
            else Ours(SHAPE, "mlm", low_memory=variant == "mask, low memory").step
        )
        for _ in range(STEPS):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)

    torch.set_num_threads(2)
    sizes = peaks_of(train)
    return sizes | {"seconds": statistics.median(seconds[1:])}


def peaks_of(work: Callable[[], None]) -> dict[str, float]:
    """Do something, and return the peaks of memory in MiB above what there was before."""
    before = _memory()
    highest = dict(before)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            for kind, size in _memory().items():
                highest[kind] = max(highest[kind], size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return {kind: highest[kind] - before[kind] for kind in before}


def _memory() -> dict[str, float]:
    """Return MiB in use by this process."""
    status = Path("/proc/self/status").read_text()
    kinds = {"peak": "VmRSS", "anonymous": "RssAnon"}
    return {
        kind: int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]
        for kind, key in kinds.items()
    }
