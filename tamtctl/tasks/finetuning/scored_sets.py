"""Sets of examples that a model is scored on while it is fine-tuned, and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Features
from tamtctl.foundations.devices import Compute
from tamtctl.tasks.kinds.class_order import LabelScale
from tamtctl.tasks.kinds.loading import Encoded, Encoding, Predictions, predict
from tamtctl.tasks.kinds.metrics import scores, standard_errors
from tamtctl.tasks.labelled.records import Examples
from tamtctl.tasks.registry import Task

_BATCH = 64


@dataclass(frozen=True)
class ScoredSets:
    """Examples, and what a model reads of them.

    Attributes:
        task: Names the metrics.
        encoding: How the model takes texts.
        compute: Where and in which precision.
        sets: Suffix of a metric's name → examples.
        inputs: Of each set.
    """

    task: Task
    encoding: Encoding
    compute: Compute
    sets: Mapping[str, Examples]
    inputs: Mapping[str, Encoded]

    @classmethod
    def of(
        cls, task: Task, encoding: Encoding, compute: Compute, sets: Mapping[str, Examples]
    ) -> ScoredSets:
        """Prepare to score on examples."""
        inputs = {suffix: encoding.encode(examples) for suffix, examples in sets.items()}
        return cls(task, encoding, compute, sets, inputs)

    def __len__(self) -> int:
        return sum(map(len, self.sets.values()))

    @property
    def features(self) -> list[Features]:
        """What a model reads of each set."""
        return [inputs.features for inputs in self.inputs.values()]

    def predict(
        self, model: PreTrainedModel, scale: LabelScale | None = None
    ) -> dict[str, Predictions]:
        """Return what a model says of every set.

        Args:
            model: Its head says labels, unless a ``scale`` is to be undone.
            scale: In which the model is trained.
        """
        return {
            suffix: predict(
                self.encoding,
                model,
                examples,
                batch_size=_BATCH,
                autocast=self.compute.autocast,
                encoded=self.inputs[suffix],
                scale=scale,
            )
            for suffix, examples in self.sets.items()
        }

    def score(self, found: Mapping[str, Predictions]) -> dict[str, float]:
        """Return every metric of every set."""
        return {
            name + suffix: value
            for suffix, predictions in found.items()
            for name, value in scores(self.task, predictions.values, self.sets[suffix]).items()
        }

    def standard_errors(self, found: Mapping[str, Predictions]) -> dict[str, float | None]:
        """Return how far another set of this size would move each metric, None of too few."""
        return {
            name + suffix: error
            for suffix, said in found.items()
            for name, error in standard_errors(self.task, said.values, self.sets[suffix]).items()
        }
