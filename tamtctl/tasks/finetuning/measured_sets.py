"""Sets of examples that a model is measured on, during fine-tuning and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Encoded, Features
from tamtctl.foundations.devices import Compute
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import Predictions
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.kinds.metrics import metrics, standard_errors
from tamtctl.tasks.kinds.predicting import predict
from tamtctl.tasks.task import Task

_BATCH = 64


@dataclass(frozen=True)
class MeasuredSets:
    """Sets of examples, with the inputs of a model.

    Attributes:
        task: The task, which names the metrics.
        compute: Device and precision.
        sets: Suffix of a metric's name → examples.
        encoded: Suffix → the inputs of a model for these examples.
    """

    task: Task
    compute: Compute
    sets: Mapping[str, Examples]
    encoded: Mapping[str, Encoded]

    @classmethod
    def of(
        cls, task: Task, inputs: TextInputs, compute: Compute, sets: Mapping[str, Examples]
    ) -> MeasuredSets:
        """Encode examples to measure on; see the attributes for ``sets``."""
        kind = kind_of(task)
        encoded = {suffix: kind.encode(inputs, examples) for suffix, examples in sets.items()}
        return cls(task, compute, sets, encoded)

    def __len__(self) -> int:
        return sum(map(len, self.sets.values()))

    @property
    def features(self) -> list[Features]:
        """The inputs of a model for each set."""
        return [encoded.features for encoded in self.encoded.values()]

    def predict(
        self, model: PreTrainedModel, scale: LabelScale | None = None
    ) -> dict[str, Predictions]:
        """Return suffix → predictions for that set.

        Args:
            model: The model.
            scale: The scale of its outputs, which is undone; None if they are labels already.
        """
        return {
            suffix: predict(
                self.task,
                model,
                examples,
                self.encoded[suffix],
                batch_size=_BATCH,
                autocast=self.compute.autocast,
                scale=scale,
            )
            for suffix, examples in self.sets.items()
        }

    def metrics(self, found: Mapping[str, Predictions]) -> dict[str, float]:
        """Return metric with suffix → its value, for every set."""
        return {
            name + suffix: value
            for suffix, predictions in found.items()
            for name, value in metrics(self.task, predictions.values, self.sets[suffix]).items()
        }

    def standard_errors(self, found: Mapping[str, Predictions]) -> dict[str, float | None]:
        """Return metric with suffix → its standard error; None if the set is too small."""
        return {
            name + suffix: error
            for suffix, said in found.items()
            for name, error in standard_errors(self.task, said.values, self.sets[suffix]).items()
        }
