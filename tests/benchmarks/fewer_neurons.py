"""What fewer feed-forward neurons buy: size and latency, and the quality after a recovery.

For each share of neurons that is kept and each seed, a mask is trained, the weights that are left
are recovered, and the checkpoint is exported as an ONNX graph in int8, too. `tamtctl bench` then
measures all folders beside the dense model. ``plan`` prints the commands; ``measure`` runs them,
can be stopped and goes on.

Settings were chosen with all-MiniLM-L6-v2 at half the neurons, seed 1, on 1,500 pairs of STS-B's
*training* set and 2,000 questions of SQuAD's training set against the paragraphs of their articles:

    mask                                                Pearson 0.821, nDCG@10 0.754
    200 steps of 32 sentences at rate 2e-4                      0.830          0.783
        at 5e-4                                                 0.832          0.787
        at 1e-3                                                 0.828          0.783
    Wanda's mask, 200 steps at 1e-3                             0.831          0.781

The dense model has 0.844 and 0.822 there.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .squad_retrieval import add_inputs, options_of

MASK_STEPS = 200
RATE = 5e-4


@dataclass(frozen=True)
class Step:
    """A command, and the folder that it makes, unless it finds by itself what is done."""

    words: list[str]
    makes: Path | None = None


def main() -> bool:
    """Do what is asked for, and return that it could be done."""
    parser = argparse.ArgumentParser("fewer_neurons", description=__doc__)
    parser.add_argument("step", choices=("plan", "measure"))
    add_inputs(parser)
    parser.add_argument("--kept", default="0.75,0.5,0.25", help="shares of the neurons")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--minutes", default="30", help="of each recovery")
    parser.add_argument("--threads", default="2")
    told = parser.parse_args()
    for step in _steps(told):
        if step.makes is not None and step.makes.exists():
            continue
        Console(soft_wrap=True).print("tamtctl", shlex.join(step.words))
        if told.step == "plan":
            continue
        command = [sys.executable, "-m", "tamtctl", *step.words]
        if subprocess.run(command, check=False).returncode != 0:
            return False
    return True


def _steps(told: argparse.Namespace) -> Iterator[Step]:
    measured: list[Path] = []
    for kept in told.kept.split(","):
        for seed in told.seeds.split(","):
            about = f"{told.model.name}-{kept}-{seed}"
            yield from _checkpoints(told, 1 - float(kept), seed, about)
            measured += [Path(f"{name}-{about}") for name in ("mask", "recovered", "int8")]
    folders = [str(f / "model" if f.name.startswith("recovered") else f) for f in measured]
    bench = ["bench", *folders, "--against", str(told.model), "--figure", "neurons.png"]
    bench += ["--task", "stsb-zero-shot", "--data-dir", str(told.glue), "--task", "retrieval"]
    yield Step([*bench, *options_of(told.retrieval)])


def _checkpoints(
    told: argparse.Namespace, sparsity: float, seed: str, about: str
) -> Iterator[Step]:
    run, mask, recovered = f"search-{about}", f"mask-{about}", f"recovered-{about}"
    equal = ["--seed", seed, "--threads", told.threads, "--precision", "bf16"]
    text = ["--corpus", str(told.wikipedia / "train-small.txt.xz")]
    text += ["--held-out", str(told.wikipedia / "valid.txt.xz")]
    search = ["search", "--recipe", "fast", "--model", str(told.model), *text, "--batch-size", "32"]
    search += ["--pattern", "neurons", "--sparsity", f"{sparsity:g}", "--steps", str(MASK_STEPS)]
    yield Step([*search, *equal, "--output-dir", run])
    yield Step(["export", f"{run}/ticket", "--output-dir", mask], Path(mask))
    recover = ["recover", f"{run}/ticket", "--minutes", told.minutes, "--learning-rate", str(RATE)]
    yield Step([*recover, *equal, "--output-dir", recovered])
    export = ["export", f"{recovered}/model", "--format", "onnx", "--precision", "int8"]
    yield Step([*export, "--output-dir", f"int8-{about}"], Path(f"int8-{about}"))
