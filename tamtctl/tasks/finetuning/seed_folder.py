"""The folder of a seed, which appears once it is complete: its facts and predictions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import DamagedRunError
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import Predictions
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.run_facts import SEED_METRICS
from tamtctl.tasks.task import Task
from tamtctl.training.run_folder import CHECKPOINTS, RunFolder

_PREDICTIONS = "predictions.jsonl"


def seed_folder(run: RunFolder, seed: int) -> Path:
    """Return the folder that a seed of a run has once it is complete."""
    return run.path / f"seed-{seed}"


def seed_facts(folder: Path) -> dict[str, Any] | None:
    """Return the facts in the folder of a seed, None if it is not complete."""
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
    """Prepare the folders for a seed that is not complete; its checkpoints are kept."""
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(exist_ok=True)


def put_in_its_place(unfinished: Path, folder: Path) -> None:
    """Give the folder of a complete seed its name, without the checkpoints."""
    shutil.rmtree(unfinished / CHECKPOINTS, ignore_errors=True)
    unfinished.replace(folder)


def save_predictions(
    folder: Path, task: Task, found: Mapping[str, Predictions], sets: Mapping[str, Examples]
) -> None:
    """Write the predictions for every dev example, one JSON object a line.

    Args:
        folder: The seed's folder.
        task: The task that the model is fine-tuned on.
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
        task: The task that the model is fine-tuned on.
        split: One of the task's dev splits.

    Raises:
        DamagedRunError: They cannot be read.
    """
    file, kind = folder / _PREDICTIONS, kind_of(task)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["split"] == split]
        labels = [kind.label_from_json(row["label"]) for row in rows]
        said = [kind.prediction_from_json(row["prediction"]) for row in rows]
        return said, Examples([row["id"] for row in rows], (), labels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedRunError(f"{str(file)!r} is damaged; --force fine-tunes again") from error


def _rows(task: Task, predictions: Predictions, examples: Examples) -> list[dict[str, Any]]:
    """Return a JSON object for each example: the prediction and the label."""
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
