from __future__ import annotations

import numpy as np
import pytest

from tamtctl.held_out_loss import HeldOutLoss
from tamtctl.statistics import (
    Resampled,
    Spread,
    correlation,
    loss_difference,
    score_difference,
)


def losses(rng: np.random.Generator, shift: float, hardness: np.ndarray) -> HeldOutLoss:
    counts = np.full(len(hardness), 20)
    noise = rng.normal(0, 0.1, len(hardness))
    return HeldOutLoss((hardness + shift + noise) * counts, counts)


def test_spread_is_the_sample_deviation_and_none_for_one_seed() -> None:
    assert str(Spread.of([1.0, 2.0, 3.0])) == "2.000 ± 1.000"
    assert Spread.of([2.5]) == Spread(2.5, None, 1)


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(4, 2, 200)
    interval = loss_difference([losses(rng, 0.5, hardness)], [losses(rng, 0.0, hardness)])
    assert interval.low < 0.5 < interval.high
    # 1.96 standard errors of a mean of 200 differences of two noises of 0.1
    half = 1.96 * 0.1 * np.sqrt(2 / 200)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.2)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        hardness = rng.normal(4, 2, 60)
        interval = loss_difference([losses(rng, 0.3, hardness)], [losses(rng, 0.0, hardness)])
        covered += interval.low <= 0.3 <= interval.high
    assert 180 <= covered <= 199


def test_blocks_weigh_by_their_targets_and_seeds_are_averaged() -> None:
    counts = np.array([1, 3])
    one, two = (HeldOutLoss(np.array(sums), counts) for sums in ([1.0, 6.0], [3.0, 6.0]))
    zero = HeldOutLoss(np.zeros(2), counts)
    assert loss_difference([one], [zero]).value == pytest.approx(7 / 4)
    assert loss_difference([one, two], [zero]).value == pytest.approx(8 / 4)
    assert loss_difference([one], [one]).value == loss_difference([one], [one]).high == 0
    assert not loss_difference([one], [one]).is_significant


def test_scores_are_paired_by_resample() -> None:
    resampled = np.linspace(0.5, 0.7, 100)
    a, b = Resampled(0.61, resampled + 0.01), Resampled(0.60, resampled)
    interval = score_difference([a], [b])
    assert interval.value == pytest.approx(0.01)
    assert (interval.low, interval.high) == pytest.approx((0.01, 0.01))


def test_correlation_agrees_with_fishers_formula_and_is_none_where_there_is_none() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=30)
    y = -x + rng.normal(0, 0.5, 30)
    found = correlation(x.tolist(), y.tolist())
    assert found is not None
    r = np.corrcoef(x, y)[0, 1]
    assert found.value == pytest.approx(r)
    half = 1.959964 / np.sqrt(27)
    assert np.arctanh(found.high) - np.arctanh(found.value) == pytest.approx(half)
    assert found.low < found.value < found.high < 0
    assert correlation([1, 2, 3], [1, 2, 3]) is None
    assert correlation([1, 2, 3, 4], [5, 5, 5, 5]) is None
    perfect = correlation([1, 2, 3, 4], [2, 4, 6, 8])
    assert perfect is not None
    assert perfect.value == pytest.approx(1)
