"""Training in one process or in several, and the scores and weights that it ends with, saved."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tamtctl.foundations import distributed
from tamtctl.foundations.watching import Silent
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.run import PreparedSearch
from tamtctl.pruning.trained.mask_training import MaskTraining
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.training.run_folder import RunFolder

SEARCHES: dict[str, dict[str, Any]] = {
    # Slices and micro-batches of unequal size, numbers of masked tokens that differ in all of them.
    "mlm": {"objective": "mlm", "batch_size": 5, "micro_batch_size": 2},
    "kd": {"objective": "kd", "batch_size": 4},
    "mlm+kd": {"objective": "mlm+kd", "batch_size": 4, "micro_batch_size": 1},
    # Rows of unequal length, of which the slices have no equal share.
    "lines": {"objective": "mlm+kd", "batch_size": 5, "micro_batch_size": 2, "rows": "lines"},
    # Rows that are compared with those of other slices and micro-batches.
    "similarity": {
        "objective": "embedding+similarity",
        "batch_size": 5,
        "micro_batch_size": 2,
        "rows": "lines",
    },
    "nats": {
        "objective": "mlm",
        "init_scores": "nats",
        "learning_rate": 0.05,
        "init": "obs",
        "batch_size": 5,
        "allocation": "global",
        "budget_criterion": "fisher",
    },
    "imp": {"objective": "mlm", "method": "imp", "steps": None, "sparsity": 0.3, "prune_every": 4},
}
FINETUNINGS: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 2, "learning_rate": 1e-3, "select": "best"},
    "stopping": {"epochs": 6, "patience": 1, "find_learning_rate": True},
}


def search_config(model: Path, text: Path, /, **changes: Any) -> SearchConfig:
    small: dict[str, Any] = {
        "sparsity": 0.7,
        "model": str(model),
        "corpus": (str(text),),
        "rows": "blocks",
        "steps": 8,
        "batch_size": 4,
        "sequence_length": 16,
        "learning_rate": 5e-3,
        "evaluation_blocks": 8,
        "device": "cpu",
        "dropout": False,
    }
    return SearchConfig.from_recipe("nano", **(small | changes))


def main(model: Path, sparse: Path, text: Path, examples: Path, folder: Path) -> None:
    for name, changes in SEARCHES.items():
        config = search_config(model, text, **changes)
        search = PreparedSearch.prepare(config, RunFolder(folder / name, {}), Silent())
        search.training.run(lambda _: None)
        training = search.training
        scores = training.folded.scores if isinstance(training, MaskTraining) else {}
        state = scores | {f"mask.{n}": m for n, m in training.masks.items()}
        state |= {f"head.{n}": p.detach() for n, p in training.steps.objective.head.items()}
        distributed.world().on_first(partial(save_file, state, folder / f"{name}.safetensors"))
    for name, changes in FINETUNINGS.items():
        fine = FinetuneConfig(
            task="own",
            train=str(examples),
            dev=str(examples),
            dense=True,
            model=str(sparse),
            batch_size=5,
            threads=1,
            **changes,
        )
        finetune(fine, output_dir=folder / name)


def main_of(environment: dict[str, str], *paths: Path) -> None:
    """Do so as one of the processes of a job, which the environment speaks of."""
    os.environ.update(environment)
    with distributed.joined():
        main(*paths)
