"""Tasks of a comparison that are measured without training, and the cache of what they gave.

A task of this kind is a benchmark of sentence embeddings, or a measure on a user's files, as in
``evaluate``. Measuring takes minutes, so that a comparison keeps what it found. The key is a digest
of the model, the ticket, the data, the settings, the device and the precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tamtctl.comparison.intervals import Resampled, Spread
from tamtctl.comparison.task_metrics import TaskMetric
from tamtctl.foundations.cache import cache_folder, keep_if_possible
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.watching import Watcher
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.pruning.searching.identity import Identity, model_identity, ticket_identity
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.result import Evaluation
from tamtctl.tasks.evaluation.zero_shot import open_benchmark
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.measures import MEASURES, Measure
from tamtctl.training.run_folder import write_json

_VERSION = 4  # raise it whenever the same model would have other scores


def data_identity(config: EvaluateConfig) -> Identity:
    """Read the data of a task, and return digests of them.

    Args:
        config: The evaluation of any model.

    Raises:
        TamtctlError: A file is missing or refused.
    """
    if row := _measure(config):
        row.function("read")(config, row)
    else:
        _benchmark(config).dev()
    return {
        " ".join(filter(None, (name, getattr(config, name, None)))): digest
        for name, digest in _digests(config).items()
    }


def check_embeddings(config: EvaluateConfig) -> None:
    """Refuse a model whose embeddings cannot be measured on a task.

    Raises:
        ModelError: Its pooling or its similarity is not known.
    """
    if row := _measure(config):
        row.function("check_embeddings")(config.name)
    else:
        SentencePipeline.of(config.name)


def measured_on(config: EvaluateConfig, watcher: Watcher[Any]) -> TaskMetric:
    """Return what a model or a ticket scores on a task, measured now or kept from before.

    Args:
        config: The evaluation.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: The model, the ticket or the data is refused.
    """
    file = _file_of(config)
    if (known := _read(file)) is not None:
        return known
    found = evaluate(config, watcher=watcher)
    values = _to_dict(found)
    keep_if_possible(file, lambda path: write_json(path, values))
    return _from_dict(values)


def is_kept(config: EvaluateConfig) -> bool:
    """Return whether `measured_on` would find the score, without measuring."""
    return _read(_file_of(config)) is not None


def _file_of(config: EvaluateConfig) -> Path:
    """Return the file in which a score is kept; its name depends on contents, not on paths."""
    model = config.model or config.name
    weights = {
        part.removesuffix(f" of model {model}"): digest
        for part, digest in model_identity(model).items()
    }
    ticket = None if config.model is None else [*ticket_identity(config.name).values()]
    compute = Compute.choose(config.device, config.precision, config.threads)
    facts = [
        _VERSION, torch.__version__, transformers.__version__, config.task, config.batch_size,
        compute.circumstances, weights, ticket, SentencePipeline.of(model).identity,
        _digests(config),
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder("scores") / f"{name}.json"


def _digests(config: EvaluateConfig) -> dict[str, str]:
    """Return what a file is for → digest of its content, for the data of a task."""
    if row := _measure(config):
        return {name: file_sha256(expanded(file)) for name, file in row.settings(config).items()}
    return dict(_benchmark(config).identity)


def _measure(config: EvaluateConfig) -> Measure | None:
    return MEASURES.get(config.task or "")


def _benchmark(config: EvaluateConfig) -> TaskData:
    assert config.task is not None
    return open_benchmark(config, config.task)


def _to_dict(found: Evaluation) -> dict[str, Any]:
    resampled = found.resampled().get(found.metric)
    return {
        "metric": found.metric,
        "score": found.score,
        "resampled": [] if resampled is None else resampled.tolist(),
        "examples": found.examples,
        "groups": found.groups,
        "constant": found.constant_scores.get(found.metric),
        "constant_answer": found.constant_answer,
        "notes": list(found.notes),
    }


def _read(file: Path) -> TaskMetric | None:
    """Return what is kept; None if it is missing or damaged."""
    try:
        return _from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _from_dict(values: Mapping[str, Any]) -> TaskMetric:
    score = float(values["score"])
    resampled = np.array(values["resampled"], np.float64)
    run = Resampled(score, resampled, int(values["examples"]), values["groups"])
    return TaskMetric(
        str(values["metric"]),
        Spread.of([score]),
        [run],
        values["constant"],
        values["constant_answer"],
        notes=tuple(map(str, values["notes"])),
    )
