"""What a ticket of a sentence encoder is worth without fine-tuning: similarity and retrieval.

``hours`` says how long the sweep takes: for all-MiniLM-L6-v2 an hour of training on one core.
``measure`` runs it, or a ``--shard`` of it, and can be stopped and goes on. Masks are trained on
sentences of Wikipedia, and scored on STS-B's dev set and on SQuAD's dev questions, asked of the
paragraphs that ``squad_retrieval`` writes.

Settings were chosen on 1,500 pairs of STS-B's *training* set, on 2,000 questions of SQuAD's
training set against the paragraphs of their articles, and on the loss of held-out sentences, with
all-MiniLM-L6-v2 at 0.7, one seed:

    240 steps of 16, magnitude                          Pearson 0.807
    240 steps of 16, OBS                                        0.812
        rate 0.06 instead of 0.03                               0.810
        bf16 instead of fp32                                    0.812
        words keep 0, 1 instead of 0.75 of their share          0.773, 0.811
        embedding, kd+embedding+similarity                      0.809, 0.808
        by-type instead of uniform                              0.813
    720 steps of 16, uniform, global                            0.817, 0.812
    480 steps of 32, by-type, global                            0.823, 0.813
    200 steps of 32, by-type, paragraphs among sentences        0.811, nDCG@10 0.752
    480 steps of 32, by-type                                           nDCG@10 0.760

The dense model has 0.844 and 0.822 there, magnitude 0.750. Steps are what decides; and where the
zeros are. At 0.5, 400 steps of 32, with 2,000 questions on every eighteenth article of SQuAD's
training set, dense 0.821:

    by-type: embeddings 0.5, layers 0.5                                nDCG@10 0.802
        the mask of the embeddings alone, of the layers alone                  0.818, 0.804
    global with --floor 0.35: embeddings 0.65, layers 0.34                     0.810
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from .squad_retrieval import add_inputs, options_of

SPARSITIES, SEEDS = "0.5,0.6,0.7", "1,2,3"
METHODS = "tamt-kd+embedding,fisher-kd,obs,wanda,magnitude"
PRUNE_EVERY = 100  # 400, 500 and 600 steps to 0.5, 0.6 and 0.7


def main() -> bool:
    """Do what is asked for, and return that it could be done."""
    parser = argparse.ArgumentParser("sentence_encoders", description=__doc__)
    parser.add_argument("step", choices=("hours", "measure"))
    add_inputs(parser)
    parser.add_argument("--sparsity", default=SPARSITIES)
    parser.add_argument("--seeds", default=SEEDS)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument(
        "--prune-every", type=int, default=PRUNE_EVERY, help="400: four times the steps"
    )
    parser.add_argument("--allocation", default="by-type", help="as in search")
    parser.add_argument("--floor", type=float, help="as in search")
    parser.add_argument("--precision", default="bf16", help="fp32 on a CPU without units for bf16")
    parser.add_argument("--shard", help="as in compare")
    told = parser.parse_args()
    recipe = Path(f"{told.model.name}.toml")
    recipe.write_text(_recipe(told))
    sweep = f"compare --methods {told.methods} --sparsity {told.sparsity}"
    sweep += f" --seeds {told.seeds} --threads 1"
    sweep += " --tasks stsb-zero-shot,retrieval"
    command = [sys.executable, "-m", "tamtctl", *sweep.split(), "--recipe", str(recipe)]
    command += ["--data-dir", str(told.glue), *options_of(told.retrieval)]
    command += ["--dry-run"] if told.step == "hours" else []
    command += ["--shard", told.shard] if told.shard else []
    return subprocess.run(command, check=False).returncode == 0


def _recipe(told: argparse.Namespace) -> str:
    lines = [
        'recipe = "fast"',
        f'model = "{told.model.absolute()}"',
        f'corpus = ["{told.wikipedia.resolve()}/train-small.txt.xz"]',
        f'held-out = ["{told.wikipedia.resolve()}/valid.txt.xz"]',
        f'allocation = "{told.allocation}"',
        *([] if told.floor is None else [f"floor = {told.floor}"]),
        f'precision = "{told.precision}"',
        "batch-size = 32",
        "[tamt]",
        'init = "obs"',
        "[imp]",
        f"prune-every = {told.prune_every}",
    ]
    return "\n".join([*lines, ""])
