"""Whether a mask can change at all is told beforehand, and told right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_search import small_config

from tamtctl.pruning.searching.api import plan_search, search
from tamtctl.pruning.trained.initial_scores import KEPT_SCORE
from tamtctl.pruning.trained.reach import step_sizes, warn_of_reach
from tamtctl.training.optimizer import PaperAdamW


@pytest.mark.parametrize("bias_correction", [True, False])
def test_no_gradients_move_a_score_further_than_a_step_can(bias_correction: bool) -> None:
    """Of the optimizer itself, against all sorts of gradients, one score each."""
    steps, rate = 60, 0.01
    generator = torch.Generator().manual_seed(0)
    grow = torch.exp(torch.linspace(-0.5, 0.5, 400)[None] * torch.arange(steps)[:, None])
    noise = torch.randn(steps, 400, generator=generator)
    rare = (torch.rand(steps, 400, generator=generator) < 0.1).float()
    gradients = torch.cat([grow, noise, rare, torch.ones(steps, 1)], 1).double()
    scores = torch.zeros(gradients.shape[1], dtype=torch.float64)
    optimizer = PaperAdamW(
        [scores],
        epsilon=1e-30,
        weight_decay=0.0,
        bias_correction=bias_correction,
        clip="global",
        max_grad_norm=float("inf"),
    )
    steady, most = step_sizes(steps, bias_correction=bias_correction)
    nearest = 0.0
    for step in range(steps):
        before = scores.clone()
        scores.grad = gradients[step].clone()
        optimizer.step(rate)
        moved = (scores - before).abs() / rate
        assert moved.max() <= most[step] * (1 + 1e-6)
        assert moved[-1] == pytest.approx(steady[step])
        nearest = max(nearest, float(moved.max() / most[step]))
    assert nearest > 0.99  # the bound is no looser than it must be


def test_the_warning_comes_where_no_mask_changes(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    for rate, is_warned in ((4e-4, True), (5e-3, False)):
        config = small_config(tiny_model, text_file, steps=20, learning_rate=rate)
        line = warn_of_reach(config, decay_steps=20)
        result = search(config, output_dir=tmp_path / str(rate))
        assert bool(line) is is_warned
        assert (result.flips == 0) is is_warned
        assert result.changed is not is_warned
    assert line is None


def test_the_schedule_counts(tiny_model: Path, text_file: Path) -> None:
    config = small_config(tiny_model, text_file, steps=40, learning_rate=2.6e-4)
    warning = warn_of_reach(config, decay_steps=40)  # 20.5 rates: 0.0053 of the 0.01 needed
    assert warning is not None
    assert "cannot change the mask: in 40 steps at a learning rate of 0.00026" in warning
    assert "by about 0.0053, and 0.01 is needed" in warning
    assert warn_of_reach(config, decay_steps=4000) is None  # 39.8 rates: 0.01035
    assert KEPT_SCORE == 0.02
    # Without bias correction the first steps of Adam are longer.
    assert "bias_correction" in type(config).__dataclass_fields__
    longer = small_config(
        tiny_model, text_file, steps=40, learning_rate=2.6e-4, bias_correction=False
    )
    assert warn_of_reach(longer, decay_steps=40) is None


def test_in_nats_the_weights_near_the_threshold_count(tiny_model: Path, text_file: Path) -> None:
    def warning(rate: float, scores: list[float], **changes: float) -> str | None:
        config = small_config(
            tiny_model, text_file, steps=20, learning_rate=rate, init_scores="nats", **changes
        )
        return warn_of_reach(config, 20, {"m": torch.tensor([scores])})

    far = [-3.0, -2.0, 1.0, 2.0]  # 3 nats between the last one pruned and the first one kept
    never = warning(1e-3, far)  # 10.5 rates
    assert never is not None
    assert "cannot change the mask" in never
    assert "moves by about 0.011 nats, and 1.5 is needed" in never
    assert warning(0.2, far) is None
    near = [-1e-9, 1e-9] + [-3.0, 3.0] * 150
    little = warning(1e-3, near)
    assert little is not None
    assert "can change little of the mask" in little
    assert "0.0066 of the weights are that near to the threshold" in little
    assert warning(0.3, near) is None
    # Decay brings the scores nearer to each other.
    assert warning(0.1, far) is not None
    assert warning(0.1, far, weight_decay=0.5) is None


def test_what_cannot_change_in_nats_does_not(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    for rate, is_warned in ((1e-8, True), (0.05, False)):
        config = small_config(
            tiny_model, text_file, steps=20, learning_rate=rate, init_scores="nats"
        )
        plan = plan_search(config, output_dir=tmp_path / str(rate))
        assert any("the mask: in 20 steps" in line for line in plan.warnings) is is_warned
        assert (search(config, output_dir=tmp_path / str(rate)).flips > 0.001) is not is_warned
