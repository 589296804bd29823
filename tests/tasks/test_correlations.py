"""Correlations of numbers on resamples: those of each resample alone, and 0 where none is."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.metrics import INTERVAL_RESAMPLES, metrics, resampled_metrics
from tamtctl.tasks.registry import TASKS


def drawn(count: int, resamples: int) -> list[list[int]]:
    generator = np.random.Generator(np.random.Philox(key=0))
    return [generator.integers(count, size=count).tolist() for _ in range(resamples)]


@pytest.mark.parametrize(
    ("count", "looked_at"), [(3, INTERVAL_RESAMPLES), (1500, 12)], ids=["constants", "in-parts"]
)
def test_resampled_correlations_are_those_of_each_resample(count: int, looked_at: int) -> None:
    words = random.Random(1)
    labels = [float(words.randrange(6)) for _ in range(count)]
    said = [label + words.gauss(0, 1) for label in labels]
    examples = Examples([""] * count, (), labels)
    found = resampled_metrics(TASKS["stsb"], said, examples, INTERVAL_RESAMPLES)
    draws = drawn(count, INTERVAL_RESAMPLES)
    for draw in words.sample(range(INTERVAL_RESAMPLES), looked_at):
        rows = draws[draw]
        again = metrics(TASKS["stsb"], [said[i] for i in rows], examples.take(rows))
        assert {n: values[draw] for n, values in found.items()} == pytest.approx(again, abs=1e-9)
        if len(set(rows)) == 1:
            assert again == {"pearson": 0, "spearman": 0}
    assert any(len(set(rows)) == 1 for rows in draws) == (count == 3)
