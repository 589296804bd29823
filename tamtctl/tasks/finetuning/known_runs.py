"""Finished runs of the same setting: for a ticket the dense model, for the dense model tickets.

A setting is everything that decides a metric, except the ticket and the seed: the examples to train
and to measure on, the model's files, and the hyperparameters, or that the rate is searched for. It
is compared by content; names do not matter.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.untrusted import Defect, parse_json_object
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.schedule import TaskSchedule
from tamtctl.tasks.run_facts import MAX_FACTS_BYTES, SEED_METRICS
from tamtctl.tasks.task import Task
from tamtctl.training.run_folder import RESULT, RUNS

SETTING = "setting"  # key of its digest in ``metrics.json``

# Fields of a task that only name it or say where its examples are.
_NAMES = frozenset(
    {"name", "summary", "columns", "label_column", "dev_splits", "hub", "folder", "other_names",
     "unnamed_columns", "has_broken_rows"}
)  # fmt: skip
# Settings that are compared by content elsewhere, or decide no metric.
_ELSEWHERE = frozenset(
    {"task", "ticket", "dense", "model", "data_dir", "train", "dev", "text_columns",
     "label_column", "label_kind", "limit", "epochs", "learning_rate", "batch_size", "max_length",
     "find_learning_rate", "recipe", "seeds", "precision", "device", "threads"}
)  # fmt: skip
_MODEL = re.compile(r"(?P<part>.+) of model .+", re.DOTALL)
_MOST_RUNS = 10_000
_UNREADABLE = (Defect, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True)
class KnownRun:
    """A finished run of the same setting with another ticket, or of the dense model.

    Attributes:
        ticket: The name of the ticket; None for the dense model.
        sparsity: Share of zeros in the masked matrices.
        mean: Mean of the primary metric over the same seeds.
        std: Standard deviation over the seeds (n − 1); None for a single one.
        metrics: The mean of every metric.
        run_folder: The folder of the run.
    """

    ticket: str | None
    sparsity: float
    mean: float
    std: float | None
    metrics: dict[str, float]
    run_folder: str


def setting_of(
    config: FinetuneConfig,
    task: Task,
    training: TaskSchedule,
    max_length: int,
    precision: str,
    splits: Mapping[str, Examples],
    identity: Mapping[str, str],
) -> str:
    """Return a digest of everything that decides a metric but the ticket and the seed.

    Args:
        config: The request.
        task: The task, with the values that are used.
        training: How the rate rises, and in which unit numbers are trained on.
        max_length: Tokens per example.
        precision: The precision that is used.
        splits: Name of a split → its examples.
        identity: The identity of the run, which has the digests of the model's files.
    """
    told = {name: v for name, v in asdict(task).items() if name not in _NAMES}
    if config.find_learning_rate:  # each model by its own, in the same way
        told["learning_rate"] = "found"
    values = {
        "task": told,
        "warm_up": training.warm_up,
        "has_standard_labels": training.has_standard_labels,
        "max_length": max_length,
        "precision": precision,
        "config": {name: v for name, v in config.to_dict().items() if name not in _ELSEWHERE},
        "splits": {name: examples.sha256 for name, examples in splits.items()},
        "model": {
            found["part"]: digest
            for name, digest in identity.items()
            if (found := _MODEL.fullmatch(name))
        },
        "algorithm": identity.get("algorithm version"),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def runs_beside(
    setting: str,
    metric: str,
    seeds: Iterable[int],
    *,
    is_dense: bool,
    folders: Iterable[Path] = (RUNS,),
) -> list[KnownRun]:
    """Return the finished runs of a setting: those of the dense model for a ticket, or vice versa.

    Args:
        setting: The digest by `setting_of`.
        metric: The primary metric.
        seeds: The seeds that a run must have.
        is_dense: Whether to return tickets, for a run of the dense model.
        folders: Where runs are looked for.
    """
    wanted, found = sorted(seeds), {}
    places: dict[Path, Path] = {}
    for run in itertools.chain.from_iterable(map(_runs_in, folders)):
        places.setdefault(run.resolve(), run)
    for run in list(places.values())[:_MOST_RUNS]:
        try:
            known = _known(run, setting, metric, wanted)
        except _UNREADABLE:
            continue  # written by another version, damaged, or no run of ours
        if known and (known.ticket is None) != is_dense:
            found[run] = known
    return sorted(found.values(), key=lambda run: (run.sparsity, run.run_folder))


def beside_checkpoint(
    seed: Path, metric: str, seeds: Iterable[int] | None = None, *, folders: Iterable[Path] = ()
) -> list[KnownRun]:
    """Return what `runs_beside` finds for a checkpoint of a run.

    Args:
        seed: The folder of the checkpoint.
        metric: The primary metric.
        seeds: The seeds that a run must have; None: only the checkpoint's own.
        folders: Where runs are looked for besides ``runs/``.
    """
    try:
        facts = _facts(seed)
        wanted = [int(facts["seed"])] if seeds is None else seeds
        is_dense = facts["config"]["ticket"] is None
        setting = str(facts[SETTING])
    except _UNREADABLE:
        return []  # written by another version
    return runs_beside(setting, metric, wanted, is_dense=is_dense, folders=(RUNS, *folders))


def _runs_in(folder: Path) -> Iterator[Path]:
    return (file.parent for file in sorted(folder.glob(f"*/{RESULT}")))


def _known(run: Path, setting: str, metric: str, seeds: list[int]) -> KnownRun | None:
    first = _facts(run / f"seed-{seeds[0]}")
    if first.get(SETTING) != setting:
        return None
    facts = [first, *(_facts(run / f"seed-{seed}") for seed in seeds[1:])]
    if any(one.get(SETTING) != setting for one in facts):
        return None
    names = facts[0]["scores"].keys()
    values = {name: [float(one["scores"][name]) for one in facts] for name in names}
    ticket = facts[0]["config"]["ticket"]
    own = values[metric]
    return KnownRun(
        ticket=None if ticket is None else str(ticket),
        sparsity=float(facts[0]["sparsity"]),
        mean=statistics.fmean(own),
        std=statistics.stdev(own) if len(own) > 1 else None,
        metrics={name: statistics.fmean(of_seeds) for name, of_seeds in values.items()},
        run_folder=str(run),
    )


def _facts(seed: Path) -> dict[str, Any]:
    return parse_json_object(read_regular(seed / SEED_METRICS, MAX_FACTS_BYTES), SEED_METRICS)
