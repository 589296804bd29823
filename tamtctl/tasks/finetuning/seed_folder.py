"""The folder of a seed: its facts and predictions, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import DamagedRunError
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import Predictions, kind_of
from tamtctl.tasks.run_facts import SEED_METRICS
from tamtctl.tasks.task import Task
from tamtctl.training.run_folder import RunFolder

_PREDICTIONS = "predictions.jsonl"


def seed_folder(run: RunFolder, seed: int) -> Path:
    """Return where a seed of a run is, once it is complete."""
    return run.path / f"seed-{seed}"


def seed_facts(folder: Path) -> dict[str, Any] | None:
    """Return what the folder of a seed says of it, None if it is not complete."""
    file = folder / SEED_METRICS
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        names = (
            "scores", "seconds", "standard_errors", "finding", "epochs_done", "reported_epoch",
        )  # fmt: skip
        return {name: facts[name] for name in names}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedRunError(
            f"{str(file)!r} is damaged; remove {str(folder)!r} and run the same command again"
        ) from error


def make_room(unfinished: Path, folder: Path) -> None:
    """Prepare for a seed that is not complete, which may go on from a checkpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(exist_ok=True)


def save_predictions(
    folder: Path, task: Task, found: Mapping[str, Predictions], sets: Mapping[str, Examples]
) -> None:
    """Write what a model says of every dev example, one JSON object a line.

    Args:
        folder: The seed's folder.
        task: What the model is fine-tuned on.
        found: Suffix of a dev set's metrics → predictions.
        sets: Suffix → examples.
    """
    with (folder / _PREDICTIONS).open("w", encoding="utf-8") as file:
        for suffix, predictions in found.items():
            split = task.dev_splits[suffix]
            for row in _rows(task, predictions, sets[suffix]):
                file.write(json.dumps({"split": split} | row) + "\n")


def read_predictions(folder: Path, task: Task, split: str) -> tuple[list[Any], Examples]:
    """Return the predictions of a split, and its examples without their texts.

    Args:
        folder: The seed's folder.
        task: What the model is fine-tuned on.
        split: One of the task's dev splits.
    """
    lines = (folder / _PREDICTIONS).read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == split]
    kind = kind_of(task)
    labels = [kind.label_from_json(row["label"]) for row in rows]
    said = [kind.prediction_from_json(row["prediction"]) for row in rows]
    return said, Examples([row["id"] for row in rows], (), labels)


def _rows(task: Task, predictions: Predictions, examples: Examples) -> list[dict[str, Any]]:
    """Return one JSON object per example: what was predicted, and what was to be."""
    kind = kind_of(task)
    rows = zip(
        examples.ids, predictions.values, predictions.confidences, examples.labels, strict=True
    )
    return [
        {
            "id": name,
            "prediction": kind.prediction_to_json(value),
            "confidence": kind.confidence_to_json(confidence),
            "label": kind.label_to_json(label),
        }
        for name, value, confidence, label in rows
    ]
