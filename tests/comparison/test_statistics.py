from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.functional import spearman_corrcoef

from tamtctl.comparison.intervals import (
    Resampled,
    Spread,
    loss_difference,
    metric_difference,
    rank_correlation,
)
from tamtctl.foundations.estimates import Interval
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss, total_error


def losses(rng: np.random.Generator, shift: float, hardness: np.ndarray) -> HeldOutLoss:
    counts = np.full(len(hardness), 20)
    noise = rng.normal(0, 0.1, len(hardness))
    return HeldOutLoss((hardness + shift + noise) * counts, counts)


def bounds(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_terms_of_the_same_units_move_together() -> None:
    rng = np.random.default_rng(3)
    one = losses(rng, 0, rng.normal(4, 1, 60))
    assert one.standard_error is not None
    assert total_error([one, one]) == pytest.approx(2 * one.standard_error)
    opposite = replace(one, sums=2 * one.mean * one.counts - one.sums)
    assert total_error([one, opposite]) == pytest.approx(0, abs=1e-12)


def test_spread_is_the_sample_deviation_and_none_for_one_seed() -> None:
    assert str(Spread.of([1.0, 2.0, 3.0])) == "2.000 ± 1.000"
    assert Spread.of([2.5]) == Spread(2.5, None, 1)


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(4, 2, 200)
    interval = loss_difference([losses(rng, 0.5, hardness)], [losses(rng, 0.0, hardness)])
    low, high = bounds(interval)
    assert low < 0.5 < high
    # 1.96 standard errors of a mean of 200 differences of two noises of 0.1
    half = 1.96 * 0.1 * np.sqrt(2 / 200)
    assert high - low == pytest.approx(2 * half, rel=0.2)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        hardness = rng.normal(4, 2, 60)
        interval = loss_difference([losses(rng, 0.3, hardness)], [losses(rng, 0.0, hardness)])
        low, high = bounds(interval)
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 199


def test_blocks_weigh_by_their_targets_and_seeds_are_averaged() -> None:
    counts = np.array([1, 3])
    one, two = (HeldOutLoss(np.array(sums), counts) for sums in ([1.0, 6.0], [3.0, 6.0]))
    zero = HeldOutLoss(np.zeros(2), counts)
    assert loss_difference([one], [zero]).value == pytest.approx(7 / 4)
    assert loss_difference([one, two], [zero]).value == pytest.approx(8 / 4)


@pytest.mark.parametrize("blocks", [1, 2, 7, 8, 9])
def test_of_too_few_sequences_there_is_no_interval(blocks: int) -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(4, 2, blocks)
    better, worse = (losses(rng, shift, hardness) for shift in (0.0, 0.5))
    interval = loss_difference([better], [worse])
    assert interval.value < 0
    if blocks < 8:
        assert not interval.is_significant
        assert (interval.low, interval.high) == (None, None)
        needed = f"({blocks} sequence{'s' * (blocks > 1)}; 8 are needed)"
        assert interval.why_none == interval.brackets == f"too few to tell {needed}"
        assert interval.to_dict()["low"] is None
    else:
        assert interval.is_significant
        assert interval.why_none is None


def test_what_three_decimals_do_not_show_is_not_claimed() -> None:
    """A sentence would say that a mask is 0.000 better."""
    small, large = Interval(-0.0003, -0.0004, -0.0002), Interval(-0.0006, -0.0008, -0.0005)
    assert small.is_significant
    assert not small.is_claimed
    assert large.is_claimed
    assert not replace(large, high=0.1).is_claimed


def test_sequences_without_targets_are_none() -> None:
    counts = np.array([0, 3, 0, 0, 2, 0, 0, 0])
    one, other = (HeldOutLoss(values * counts, counts) for values in (np.arange(8.0), np.ones(8)))
    interval = loss_difference([one], [other])
    assert one.standard_error is None
    assert not interval.is_significant
    assert interval.why_none == "too few to tell (2 of 8 sequences have targets; 8 are needed)"


@pytest.mark.parametrize("examples", [1, 29, 30])
def test_of_too_few_examples_there_is_no_interval(examples: int) -> None:
    rng = np.random.default_rng(0)
    a, b = (Resampled(x, rng.normal(x, 0.01, 100), examples) for x in (0.9, 0.5))
    interval = metric_difference([a], [b])
    assert interval.is_significant == (interval.low is not None) == (examples == 30)
    if examples < 30:
        assert f"({examples} example" in str(interval.why_none)


def test_what_does_not_vary_or_is_no_number_is_not_significant() -> None:
    counts = np.full(20, 4)
    one, two = (HeldOutLoss(np.full(20, total), counts) for total in (8.0, 4.0))
    assert bounds(loss_difference([one], [two])) == (1, 1)
    assert not loss_difference([one], [two]).is_significant
    assert bounds(loss_difference([one], [one])) == (0, 0)
    assert not loss_difference([one], [one]).is_significant
    nothing = HeldOutLoss(np.zeros(20), np.zeros(20, np.int64))  # no token was masked
    with np.errstate(all="raise"):
        assert loss_difference([nothing], [nothing]).to_dict()["value"] is None
    for low, high in ((np.nan, -1.0), (1.0, np.nan), (np.nan, np.nan), (1.0, np.inf)):
        interval = Interval(1.0, low, high)
        assert not interval.is_significant
        assert None in interval.to_dict().values()
    assert Interval(0.1, -0.0001, 0.2).brackets == "[0.000, 0.200]"  # no minus before a zero


def test_scores_are_paired_by_resample() -> None:
    resampled = np.linspace(0.5, 0.7, 100)
    a, b = Resampled(0.61, resampled + 0.01, 50), Resampled(0.60, resampled, 50)
    interval = metric_difference([a], [b])
    assert interval.value == pytest.approx(0.01)
    assert bounds(interval) == pytest.approx((0.01, 0.01))


METHODS = ("a", "b", "c", "d", "e", "f")


def points(rng: np.random.Generator, within: float) -> dict[str, dict[str, tuple[float, float]]]:
    """Scores that fall with the sparsity, and within one go with the loss as much as said."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for number, level in enumerate(("0.5", "0.7", "0.9")):
        losses = rng.normal(0, 0.1, len(METHODS))
        scores = within * losses + rng.normal(0, 0.02, len(METHODS))
        values = zip(3 + number + losses, 0.9 - 0.2 * number + scores, strict=True)
        found[level] = dict(zip(METHODS, map(tuple, values), strict=True))
    return found


def test_rank_correlations_are_those_of_torchmetrics_with_ties() -> None:
    rng = np.random.default_rng(2)
    for _ in range(6):
        x, y = rng.integers(0, 4, (2, 7)).astype(float)
        found = rank_correlation({"0.5": dict(zip("abcdefg", zip(x, y, strict=True), strict=True))})
        if np.ptp(x) and np.ptp(y):
            wanted = float(spearman_corrcoef(torch.tensor(x), torch.tensor(y)))
            assert found.within["0.5"] == pytest.approx(wanted, abs=1e-6)
        else:
            assert (found.within["0.5"], found.mean) == (None, None)


def test_pooling_finds_a_correlation_where_within_the_sparsities_there_is_none() -> None:
    found = rank_correlation(points(np.random.default_rng(3), within=0.0))
    assert found.pooled is not None
    assert found.pooled < -0.8
    assert found.mean is not None
    assert found.mean.value == pytest.approx(np.mean([r for r in found.within.values() if r]))
    low, high = bounds(found.mean)
    assert low < 0 < high
    assert not found.mean.is_significant
    there_is = rank_correlation(points(np.random.default_rng(3), within=-1.0))
    assert there_is.mean is not None
    assert there_is.mean.value < -0.9
    assert there_is.mean.is_significant


def test_methods_are_resampled_with_all_their_sparsities() -> None:
    """Three copies of one sparsity are no more evidence than one."""
    of = points(np.random.default_rng(4), within=-0.2)["0.5"]
    once, thrice = rank_correlation({"0.5": of}), rank_correlation(dict.fromkeys("abc", of))
    assert once.mean is not None
    assert thrice.mean is not None
    assert bounds(once.mean) == pytest.approx(bounds(thrice.mean))


def test_too_few_methods_or_examples_have_no_correlation_or_no_interval() -> None:
    all_points = points(np.random.default_rng(5), within=-1.0)
    few = {level: {m: of[m] for m in "abc"} for level, of in all_points.items()}
    found = rank_correlation(few)
    assert set(found.within.values()) == {None}
    assert found.mean is None
    assert found.why_none == "too few to tell (3 methods; 4 are needed)"
    mixed = rank_correlation(few | {"0.9": all_points["0.9"]})
    assert mixed.mean is not None
    assert mixed.mean.value == mixed.within["0.9"]
    unsure = rank_correlation(all_points, why_none="too few to tell (5 examples; 30 are needed)")
    assert unsure.mean is not None
    assert unsure.mean.low is None
    # Four methods in one order: every resample says so, which is no certainty.
    perfect = rank_correlation({"0.5": {m: (i, -i) for i, m in enumerate("abcd")}})
    assert perfect.mean is not None
    assert perfect.mean.value == pytest.approx(-1)
    assert perfect.mean.low is None
