"""Size and speed of stored masks, for matrices of BERT-base's shapes.

Random weights and masks that differ from the magnitude mask in a given share of positions, spread
evenly: real differences are clustered, and smaller. Sizes are compared with the entropy of the
difference given the magnitude mask. Recomputing that mask is not part of unpacking.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tamtctl.foundations.masks import keep_count, pack, unpack
from tamtctl.ticket.format.mask_codec import (
    Mask,
    Stored,
    decode_mask,
    decompressed,
    encode_mask,
    flip,
    magnitude_mask,
    positions,
)

EMBEDDINGS, LAYERS, POOLER = [(30522, 768)], [(768, 768)] * 4 + [(3072, 768)] * 2, [(768, 768)]
REPEATS = 9
# The share of positions in which trained masks differ from the magnitude mask, by sparsity.
CASES = [(0.5, 0.05), (0.6, 0.05), (0.7, 0.05), (0.8, 0.05), (0.9, 0.05), (0.9, 0.10)]


BITS_SPEED_GOAL, DELTA_SPEED_GOAL = 2e9, 0.5e9  # weights per second
DELTA_SIZE_GOAL = 1.05  # times the entropy, at sparsities up to 0.7


def main() -> bool:
    """Measure, print two tables, and return whether the goals are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks ticket")
    parser.add_argument("--layers", type=int, default=12, help="of BERT-base's twelve")
    options = parser.parse_args()
    shapes = EMBEDDINGS + LAYERS * options.layers + POOLER
    console = Console(width=110)
    met = []
    for table, goals_met in (_speed_of_bits(shapes), _sizes(shapes)):
        console.print(table)
        met.append(goals_met)
    console.print(f"goals met: {all(met)}")
    return all(met)


def _speed_of_bits(shapes: list[tuple[int, int]]) -> tuple[Table, bool]:
    masks = [torch.rand(shape).numpy() < 0.3 for shape in shapes]
    packed = [pack(mask) for mask in masks]
    weights = sum(mask.size for mask in masks)
    source = np.ones(weights, dtype=np.uint8)
    seconds = {
        "pack": _best(lambda: [pack(mask) for mask in masks]),
        "unpack": _best(partial(_unpack_each, packed, shapes)),
        "yardstick: copy of as many bytes": _best(lambda: source.copy()),
    }
    table = Table(
        "bits", title=f"{weights:,} weights, {weights / 8e6:.1f} MB", title_justify="left"
    )
    table.add_column("ms", justify="right")
    table.add_column("G weights/s", justify="right")
    for name, spent in seconds.items():
        table.add_row(name, f"{spent * 1e3:.1f}", f"{weights / spent / 1e9:.2f}")
    slowest = max(seconds["pack"], seconds["unpack"])
    return table, weights / slowest >= BITS_SPEED_GOAL


def _unpack_each(packed: list[Stored], shapes: list[tuple[int, int]]) -> None:
    """Unpack one mask after the other, as `Ticket.masks` gives them."""
    for bits, shape in zip(packed, shapes, strict=True):
        unpack(bits, shape)


def _sizes(shapes: list[tuple[int, int]]) -> tuple[Table, bool]:
    table = Table("sparsity", "differing", title="delta", title_justify="left")
    numbers = "entropy MB,delta MB,÷ entropy,zstd MB,÷ entropy,chosen,unpack G weights/s"
    for column in numbers.split(","):
        table.add_column(column, justify="right")
    goals_met = True
    for sparsity, differing in CASES:
        entropy, delta, zstd, seconds, weights = 0.0, 0, 0, 0.0, 0
        for number, shape in enumerate(shapes):
            weight = torch.randn(shape, generator=torch.Generator().manual_seed(number)).numpy()
            reference = magnitude_mask(weight, keep_count(weight.size, sparsity))
            mask = _differing(reference, differing, number)
            entropy += _entropy(reference ^ mask, reference)
            stored = encode_mask(mask, "delta", weight)
            delta += stored.size
            zstd += encode_mask(mask, "zstd").size
            seconds += _best(partial(_unpack, stored, reference))
            weights += weight.size
            kept = int(mask.sum())
            assert np.array_equal(decode_mask(stored, "delta", shape, kept, weight), mask)
        table.add_row(
            f"{sparsity}", f"{differing:.0%}", f"{entropy / 1e6:.2f}",
            f"{delta / 1e6:.2f}", f"{delta / entropy:.3f}", f"{zstd / 1e6:.2f}",
            f"{zstd / entropy:.3f}", "delta" if delta < zstd else "zstd",
            f"{weights / seconds / 1e9:.2f}",
        )  # fmt: skip
        if sparsity <= 0.7:
            small = delta / entropy <= DELTA_SIZE_GOAL
            goals_met &= small and weights / seconds >= DELTA_SPEED_GOAL
    return table, goals_met


def _unpack(stored: Stored, reference: Mask) -> Mask:
    """Do what decoding does once the magnitude mask is there; it is flipped back and forth."""
    flip(reference, positions(decompressed(stored, reference.size)))
    return reference


def _differing(reference: Mask, share: float, seed: int) -> Mask:
    """Return a mask that keeps as many weights as another and differs in a share of positions."""
    generator = np.random.default_rng(seed)
    mask = reference.copy()
    flat = mask.reshape(-1)
    count = round(flat.size * share / 2)
    kept, pruned = np.flatnonzero(flat), np.flatnonzero(~flat)
    flat[generator.choice(kept, count, replace=False)] = False
    flat[generator.choice(pruned, count, replace=False)] = True
    return mask


def _entropy(differs: Mask, reference: Mask) -> float:
    """Return the bytes that a difference takes at least, the magnitude mask being known."""
    return (_bits(differs[reference]) + _bits(differs[~reference])) / 8


def _bits(part: Mask) -> float:
    p = float(part.mean())
    return 0.0 if p in (0, 1) else part.size * -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def _best(call: Callable[[], object]) -> float:
    """Return the shortest of several times, in seconds of this process."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)
