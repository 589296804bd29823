"""The kernels that select in all matrices at once keep what `keep_largest` does, matrix by matrix.

Without a GPU, Triton's interpreter runs them, if it is installed: torch's builds for CUDA have it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

CODE = """
import itertools
import sys
import torch
from tamtctl.foundations.selection import keep_largest
from tamtctl.pruning.trained.gpu_selection import GpuSelection

device = torch.device(sys.argv[1])
torch.manual_seed(0)
SHAPES = {"even": (70, 80), "block": (64, 64), "few": (3, 5), "odd": (100, 97), "row": (1, 9000)}
WEIGHTS = {name: torch.randn(shape) for name, shape in SHAPES.items()}
ALIKE = {name: torch.randint(-2, 3, shape).float() for name, shape in SHAPES.items()}
SCORES = {
    "all different": torch.randn,
    "two values, as at the start": lambda shape: 0.01 * (torch.rand(shape) < 0.3),
    "zeros of both signs": lambda shape: torch.where(torch.rand(shape) < 0.5, 0.0, -0.0),
    "around the smallest numbers": lambda shape: torch.randn(shape) * 1e-42,
    "infinities": lambda shape: torch.randn(shape) / (torch.rand(shape) < 0.5),
    "huge": lambda shape: torch.randn(shape) * 1e38,
}

KEPT = itertools.cycle(((1000, 4096, 0, 1, 8999), (5000, 17, 15, 9699, 4500), (1, 4095, 7, 0, 1)))

for what, make in SCORES.items():
    for weights in (WEIGHTS, ALIKE):
        keep = next(KEPT)
        scores = {name: make(shape).to(device) for name, shape in SHAPES.items()}
        frozen = {name: weight.to(device) for name, weight in weights.items()}
        keep = dict(zip(SHAPES, keep))
        folded = {name: torch.full_like(one, 7.0) for name, one in frozen.items()}
        selection = GpuSelection(folded, scores, frozen, keep)
        for _ in range(2 if make is torch.randn else 1):
            selection.select_and_fold()
            masks = selection.masks()
            for name, one in scores.items():
                expected = keep_largest(one.cpu(), keep[name], weights[name].abs())
                assert torch.equal(masks[name].cpu(), expected), (what, name, keep[name])
                assert torch.equal(folded[name].cpu(), weights[name] * expected), (what, name)
                one += 1e-3 * torch.randn(one.shape).to(device)  # in place, as training does
half = {name: one.half() for name, one in scores.items()}
turned = {name: weight.T.contiguous().T for name, weight in frozen.items()}
shifted = {n: torch.zeros(w.numel() + 1, device=device)[1:].view_as(w) for n, w in frozen.items()}
for wrong in ((folded, half, frozen), (folded, scores, turned), (shifted, scores, frozen)):
    try:
        GpuSelection(*wrong, keep)
    except ValueError:
        continue
    raise AssertionError("the kernels would read or write somewhere else")
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_matrices_at_once_keep_what_each_keeps_alone(device: str) -> None:
    if find_spec("triton") is None:
        pytest.skip("no Triton is here")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    interpreted = {"TRITON_INTERPRET": "1"} if device == "cpu" else {}
    # A new process: Triton reads this variable when it is imported.
    command, environment = [sys.executable, "-c", CODE, device], os.environ | interpreted
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
