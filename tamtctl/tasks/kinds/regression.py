"""Regression: a number for every text or pair of texts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Encoded, Features, TaskBatch
from tamtctl.foundations.errors import TaskError
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import ModelOutputs, Predictions, TaskKind
from tamtctl.tasks.kinds.class_notes import times
from tamtctl.tasks.kinds.label_scale import LARGEST_LABEL, LabelScale, exact_output
from tamtctl.tasks.kinds.metrics import correlation
from tamtctl.tasks.kinds.plain_labels import as_number, parsed_number, plain_label

_ENOUGH_OTHERS, _FAR = 8, 20.0  # other labels; growth of the deviation by one label
_NUMBERS_AT_ONCE = 2**20  # that resamples draw before their correlations are computed; 8 MB each
_ALIKE = 100  # times less deviation than the labels have makes predictions the same


class Code(TaskKind):
    """A number for each text, from a sequence classifier with a single output."""

    @property
    def no_label(self) -> float:
        """0, as any number will do."""
        return 0.0

    def label(self, place: str, value: Any, texts: tuple[Any, ...]) -> float:
        """Return a number in the task's range."""
        number = as_number(plain_label(place, value))
        low, high = self.task.label_range or (-math.inf, math.inf)
        if math.isfinite(number) and low <= number <= high:
            return number
        has_range = self.task.label_range is not None
        wanted = f"a number from {low:g} to {high:g}" if has_range else "a finite number"
        advice = self.advice(
            "correct it, or fine-tune with --label-kind classification if it is a name"
        )
        raise TaskError(f"{place}: the label {value!r} is not {wanted}; {advice}")

    @classmethod
    def looks_like(cls, values: Sequence[Any]) -> bool:
        """Return whether all labels are numbers, and not all of them whole."""
        try:
            numbers = [parsed_number(value) for value in values if not isinstance(value, bool)]
        except (TypeError, ValueError, OverflowError):
            return False
        return any(not number.is_integer() for number in numbers)

    def label_notes(self, examples: Examples, where: str) -> list[str]:
        """Return notes on labels that may not be numbers on one scale."""
        return number_notes(examples.labels, where)

    def label_summary(self, examples: Examples) -> str:
        """Return the range of the numbers."""
        return f"regression, {_range(examples.labels)}"

    def scale_of(self, labels: Iterable[float]) -> LabelScale:
        """Return mean and deviation of the training labels."""
        return LabelScale.of(labels)

    def head(self) -> dict[str, Any]:
        """Return the settings of a head with a single output."""
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, inputs: TextInputs, examples: Examples) -> Encoded:
        """Return texts with their numbers, (n,)."""
        labels = torch.tensor(examples.labels, dtype=torch.float32)
        return Encoded(inputs.features(examples.texts, labels))

    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        """Return the squared error."""
        logits = model(**batch.inputs, return_dict=True).logits.float()  # (B, 1)
        return F.mse_loss(logits.squeeze(1), batch.labels)

    def predictions(self, examples: Examples, outputs: ModelOutputs) -> Predictions:
        """Return the numbers in the unit of the labels, without a confidence."""
        values = torch.empty(len(examples))  # (n,)
        with exact_output(outputs.model):
            for batch, output in outputs.batches:
                values[batch.rows] = output.logits.float().squeeze(1).cpu()
        if outputs.scale:
            values = values.double() * outputs.scale.deviation + outputs.scale.mean
        return Predictions(values.tolist(), [None] * len(examples))

    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        """Return the task's correlations, by `torchmetrics`."""
        found = self._correlations(_numbers(predictions), _numbers(examples.labels))
        return {name: float(value) for name, value in found.items()}

    def resampled_metrics(
        self, predictions: Sequence[Any], examples: Examples, draws: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return metric → its value on each resample of the examples, shape (resamples,)."""
        predicted, wanted = _numbers(predictions), _numbers(examples.labels)  # (n,)
        at_once = max(1, _NUMBERS_AT_ONCE // len(examples))
        parts = (np.stack(draws[i : i + at_once], axis=1) for i in range(0, len(draws), at_once))
        found = [self._correlations(predicted[rows], wanted[rows]) for rows in parts]  # (n, k) each
        return {name: torch.cat([one[name] for one in found]).numpy() for name in self.task.metrics}

    def _correlations(self, predicted: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Return metric → its value, () for numbers (n,), or (k,) for k columns (n, k)."""
        from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

        functions = {
            "pearson": correlation(pearson_corrcoef),
            "spearman": correlation(spearman_corrcoef),
        }
        return {name: functions[name](predicted, wanted).double() for name in self.task.metrics}

    def constant(self, examples: Examples) -> float:
        """Return the mean label."""
        return statistics.fmean(examples.labels)

    def known_constant(self, value: Any) -> float | None:
        """Return the value as a number if it could be a label, else None."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and abs(value) < LARGEST_LABEL else None

    def constant_loss(self, features: Features) -> float:
        """Return the variance of the numbers."""
        return float(features.labels.double().var(correction=0))

    def are_alike(self, predictions: Sequence[Any], examples: Examples) -> bool:
        """Return whether predictions deviate by less than a hundredth of the labels' deviation."""
        wanted = statistics.pstdev(examples.labels)
        return bool(statistics.pstdev(predictions) < max(wanted, 1e-30) / _ALIKE)


def number_notes(labels: Sequence[float], where: str) -> list[str]:
    """Return notes on labels that are numbers.

    Args:
        labels: The labels of a split.
        where: The name of the split.
    """
    if len(set(labels)) == 1:
        return [f"every {where} label is {labels[0]:g}"]
    notes = _far_note(labels, where)
    low = [value for value in (-1.0, -100.0) if value in labels]
    rest = [value for value in labels if value not in low]
    if not low or not rest or min(rest) < 0:
        return notes
    return notes + [
        f"{value:g} is among the {where} labels ({times(labels.count(value))}), and no other is "
        "below 0; where it stands for examples without a label, leave them out"
        for value in low
    ]


def _far_note(labels: Sequence[float], where: str) -> list[str]:
    """Return a note on a single label that is so far off that the others look alike."""
    values = np.array(labels)
    farthest = int(np.abs(values - np.median(values)).argmax())
    others = np.delete(values, farthest)
    if len(others) < _ENOUGH_OTHERS or not 0 < others.std() * _FAR < values.std():
        return []
    return [
        f"the {where} label {values[farthest]:g} is far from all others ({_range(others)}), which "
        "it makes look alike; check it"
    ]


def _numbers(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _range(labels: Iterable[float]) -> str:
    values = list(labels)
    return f"{min(values):g} to {max(values):g}"
