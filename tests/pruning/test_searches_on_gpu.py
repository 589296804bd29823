"""On a real GPU: every family, precision, a compiler, a search that goes on, NCCL, and memory."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from interrupted_finetuning import Interrupting
from processes import environments, run_script
from samples import own_config
from small_search import STEPS, bits, interrupted, small_config
from torch import Tensor

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.watching import Silent, StepReport
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.ticket.ticket import Ticket

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
    pytest.mark.usefixtures("working_folder"),
]

SHARE_OF_ROUNDING = 0.01  # of a mask: a GPU adds in another order than a CPU


@pytest.fixture
def config(tiny_model: Path, text_file: Path) -> SearchConfig:
    return small_config(tiny_model, text_file, device="cuda", checkpoint_every=4)


def found(config: SearchConfig, name: str, **changes: Any) -> tuple[Ticket, dict[str, float]]:
    result = search(replace(config, **changes), output_dir=Path(name))
    return Ticket.load(result.ticket), result.losses


def share_of_differing(one: Ticket, other: Ticket) -> float:
    pairs = [(one.mask(name), other.mask(name)) for name in one.parameters]
    differing = sum(int((a != b).sum()) for a, b in pairs)
    return differing / sum(a.numel() for a, _ in pairs)


def hidden_states(model: Path, ticket: Ticket, device: str, precision: str) -> Tensor:
    encoder = load_encoder(str(model), with_head=False)
    ticket.apply(encoder.model)
    compute = Compute.choose(device, precision)
    compute.place(encoder.model)
    ids = torch.arange(5, 65).view(4, 15).to(compute.device)
    with torch.inference_mode(), compute.autocast():
        states: Tensor = encoder.model(input_ids=ids).last_hidden_state
    return states.float().cpu()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # DeBERTa's, in torch 2.11
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_has_the_mask_and_the_outputs_that_it_has_on_a_cpu(
    family: str, text_file: Path
) -> None:
    model = tiny.save(Path("model"), family)
    config = small_config(
        model, text_file, init_scores="nats", learning_rate=0.05, steps=4, dropout=False
    )
    here, losses = found(config, "here")
    there, losses_there = found(config, "there", device="cuda", precision="fp32")
    assert share_of_differing(here, there) <= SHARE_OF_ROUNDING
    assert here.metrics["flips"] > 2 * SHARE_OF_ROUNDING
    for name, loss in losses.items():
        assert losses_there[name] == pytest.approx(loss, rel=2e-3), name
    expected = hidden_states(model, here, "cpu", "fp32")
    for precision, most in (("fp32", 1e-3), ("bf16", 0.03)):
        states = hidden_states(model, here, "cuda", precision)
        assert (states - expected).norm() < most * expected.norm(), precision


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("init_scores", ["two-valued", "nats"])
def test_a_search_that_is_interrupted_ends_with_the_same_bits(
    precision: str, init_scores: str, config: SearchConfig
) -> None:
    config = replace(config, precision=precision, init_scores=init_scores)
    whole = search(config, output_dir=Path("whole")).ticket
    interrupted(config, Path("run"), after=STEPS // 2)
    resumed = search(config, output_dir=Path("run"))
    assert 0 < resumed.resumed_from < STEPS
    assert bits(resumed.ticket) == bits(whole)


def test_bf16_finds_about_what_fp32_does(config: SearchConfig) -> None:
    _, fine = found(config, "fine", precision="fp32", dropout=False)
    _, coarse = found(config, "coarse", precision="bf16", dropout=False)
    assert coarse["ticket"] < coarse["magnitude"]
    assert coarse["ticket"] == pytest.approx(fine["ticket"], rel=0.02)


@pytest.mark.filterwarnings("ignore::Warning")  # the compiler looks into everything
@pytest.mark.parametrize("objective", ["mlm", "kd"])
def test_a_compiled_search_finds_what_an_eager_one_does(
    objective: str, config: SearchConfig
) -> None:
    _, eager = found(config, "eager", objective=objective, precision="fp32", dropout=False)
    _, compiled = found(
        config, "compiled", objective=objective, precision="fp32", dropout=False, compile=True
    )
    assert compiled["ticket"] == pytest.approx(eager["ticket"], rel=2e-3)


def test_a_fine_tuning_that_is_interrupted_ends_with_the_same_bits(bare_bert: Path) -> None:
    config = own_config(bare_bert, dense=True, epochs=8, device="cuda", checkpoint_every=4)
    whole = finetune(config, output_dir=Path("whole"))
    with pytest.raises(EOFError):
        finetune(config, output_dir=Path("run"), watcher=Interrupting(10))
    resumed = finetune(config, output_dir=Path("run"))
    assert resumed.scores == whole.scores
    files = [Path(folder, "seed-1", "model.safetensors") for folder in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_no_seed_leaves_memory_to_the_next(bare_bert: Path) -> None:
    class Weighing(Silent):
        def __init__(self) -> None:
            self.taken: list[int] = []

        def progress(self, report: StepReport) -> None:
            if report.is_last:
                gc.collect()  # cycles are looked for without a GPU, by `no_model_is_left`
                self.taken.append(torch.cuda.memory_allocated())

    watcher = Weighing()
    config = own_config(bare_bert, dense=True, seeds=(1, 2, 3), device="cuda")
    finetune(config, output_dir=Path("run"), watcher=watcher)
    _, second, third = watcher.taken  # the first one sets up cuBLAS
    assert second == third


NCCL = """
from dataclasses import replace
import torch
from tamtctl.foundations.distributed import joined
with joined() as world:
    several = replace(world, size=2)  # of which this one is the only process
    weight = torch.nn.Parameter(torch.ones(3, device="cuda"))
    step = several.parallel(lambda values: (weight * values).sum(), [weight])
    step(torch.arange(3.0, device="cuda")).backward()
    assert weight.grad.tolist() == [0, 1, 2]
    totals = several.totals({"tokens": torch.tensor(3, device="cuda")}, weight.device)
    assert totals["tokens"].item() == 3
    rows, start = several.gathered(torch.ones(2, 3, device="cuda"))
    assert start == 0 and rows.tolist() == [[1.0] * 3] * 2
"""


def test_gradients_are_summed_over_nccl() -> None:
    done = run_script(NCCL, environment=os.environ | environments(1)[0])
    assert done.returncode == 0, done.stderr


def test_torchrun_with_one_process_finds_what_a_search_without_does(
    tiny_model: Path, text_file: Path
) -> None:
    words = f"tamtctl search --sparsity 0.7 --model {tiny_model} --corpus {text_file} --steps 6"
    words += " --recipe fast --batch-size 4 --sequence-length 16 --device cuda --json --output-dir"
    torchrun = "torch.distributed.run --standalone --nproc-per-node 1 -m"
    for name, started in (("one", ""), ("torchrun", f"{torchrun} ")):
        command = [sys.executable, "-m", *f"{started}{words} {name}".split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["flips"] > 0
    assert bits(Path("one/ticket")) == bits(Path("torchrun/ticket"))
