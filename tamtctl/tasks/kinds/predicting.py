"""Asking a model for predictions, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Encoded, Features, TaskBatch
from tamtctl.foundations.devices import Autocast
from tamtctl.foundations.errors import DivergedError
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import Predictions, kind_of
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.task import Task


@torch.no_grad()
def predict(
    task: Task,
    model: PreTrainedModel,
    examples: Examples,
    encoded: Encoded,
    *,
    batch_size: int,
    autocast: Autocast,
    scale: LabelScale | None = None,
) -> Predictions:
    """Return what a model says of each example, in their order, without dropout.

    Args:
        task: What the model is fine-tuned on.
        model: On its device.
        examples: To predict.
        encoded: What the kind made of the examples.
        batch_size: Examples at once.
        autocast: For the forward pass.
        scale: In which the model was trained, if its head does not undo it yet.

    Raises:
        DivergedError: The model's outputs are NaN or infinite.
    """
    model.eval()
    outputs = _outputs(encoded.features, model, batch_size, autocast)
    return kind_of(task).predictions(model, encoded, examples, outputs, scale)


def _outputs(
    features: Features, model: PreTrainedModel, batch_size: int, autocast: Autocast
) -> Iterator[tuple[TaskBatch, Any]]:
    for batch in features.evaluation_batches(batch_size):
        with autocast():
            output = model(**batch.to(model.device).inputs, return_dict=True)
        if not all(bool(values.isfinite().all()) for values in output.values()):
            raise DivergedError(
                "what the model says is no number: its training has diverged; fine-tune it with a "
                "lower --learning-rate"
            )
        yield batch, output
