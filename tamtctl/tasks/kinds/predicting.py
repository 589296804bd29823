"""Running a model on examples, batch by batch, for its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Encoded, Features, TaskBatch
from tamtctl.foundations.devices import Autocast
from tamtctl.foundations.errors import DivergedError
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import ModelOutputs, Predictions
from tamtctl.tasks.kinds.code import kind_of
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
    """Return a model's predictions for examples, in their order, without dropout.

    Args:
        task: The task that the model is fine-tuned on.
        model: The model, on its device.
        examples: The examples.
        encoded: The examples as the kind encoded them.
        batch_size: Examples in a batch.
        autocast: The precision context of the forward pass.
        scale: The scale of the labels in training, if the head's outputs are still in it.

    Raises:
        DivergedError: The model's outputs are NaN or infinite.
    """
    model.eval()
    batches = _outputs(encoded.features, model, batch_size, autocast)
    return kind_of(task).predictions(examples, ModelOutputs(model, encoded, batches, scale))


def _outputs(
    features: Features, model: PreTrainedModel, batch_size: int, autocast: Autocast
) -> Iterator[tuple[TaskBatch, Any]]:
    for batch in features.evaluation_batches(batch_size):
        with autocast():
            output = model(**batch.to(model.device).inputs, return_dict=True)
        if not all(bool(values.isfinite().all()) for values in output.values()):
            raise DivergedError(
                "the model's outputs are not finite: its training has diverged; fine-tune it with "
                "a lower --learning-rate"
            )
        yield batch, output
