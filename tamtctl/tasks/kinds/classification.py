"""Classification: one class of several for every text or pair of texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
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
from tamtctl.tasks.kinds.class_notes import listed, missing_class_notes, own_class_notes
from tamtctl.tasks.kinds.metrics import correlation, label_entropy
from tamtctl.tasks.kinds.plain_labels import plain_label
from tamtctl.tasks.task import Task

_MAX_CLASSES = 1000
_MOST_NAMED = 20  # classes that a message names, at most


class Code(TaskKind):
    """A class id for each text, from a softmax over the outputs of a sequence classifier."""

    @property
    def no_label(self) -> int:
        """The id of the first class, as any class will do."""
        return 0

    def label(self, place: str, value: Any, texts: tuple[Any, ...]) -> int:
        """Return a class id; GLUE's files hold names or ids, a user's own files only names."""
        name, labels = str(plain_label(place, value)), self.task.labels
        if name in labels:
            return labels.index(name)
        if self.task.is_public and name in (ids := [str(i) for i in range(len(labels))]):
            return ids.index(name)
        known = ", ".join(labels[:_MOST_NAMED]) + (", …" if len(labels) > _MOST_NAMED else "")
        advice = self.advice("correct it, or give examples of it to train on, too")
        raise TaskError(
            f"{place}: the label {value!r} is none of {self.task.name}'s: {known}; {advice}"
        )

    def with_labels_of(self, file: Path, values: Sequence[Any]) -> Task:
        """Return the task with the distinct labels as its classes, sorted."""
        names = {str(value) for value in values}
        if len(names) < 2:
            raise TaskError(
                f"{file} has a single label, {min(names)!r}; a classifier needs two or more"
            )
        if len(names) > _MAX_CLASSES:
            raise TaskError(
                f"{file} has {len(names)} distinct labels, which is too many for a classifier; "
                "use --label-kind regression for numbers, or another --label-column"
            )
        are_numbers = all(re.fullmatch(r"-?\d{1,9}", name) for name in names)
        # The name decides between equal numbers such as 1 and 01, so that the order is fixed.
        order = sorted(names, key=lambda name: (int(name) if are_numbers else 0, name))
        return replace(self.task, labels=tuple(order))

    def own_label_notes(self, values: Sequence[Any], *, is_guessed: bool) -> list[str]:
        """Return notes on the labels of a file that are taken for classes."""
        return own_class_notes(values, is_guessed=is_guessed)

    def label_notes(self, examples: Examples, where: str) -> list[str]:
        """Return notes on classes that a split lacks, and on a split of a single class."""
        return missing_class_notes(self.task.labels, examples, where)

    def label_summary(self, examples: Examples) -> str:
        """Return the classes."""
        return f"{len(self.task.labels)} classes: {listed(self.task.labels)}"

    def class_of(self, label: int) -> int:
        """Return the class id itself."""
        return label

    def head(self) -> dict[str, Any]:
        """Return the names of the classes, and that each text has one."""
        return {
            "id2label": dict(enumerate(self.task.labels)),
            "label2id": {label: i for i, label in enumerate(self.task.labels)},
            "problem_type": "single_label_classification",
        }

    def encode(self, inputs: TextInputs, examples: Examples) -> Encoded:
        """Return texts with their class ids, (n,)."""
        labels = torch.tensor(examples.labels, dtype=torch.int64)
        return Encoded(inputs.features(examples.texts, labels))

    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        """Return the cross entropy, in nats."""
        logits = model(**batch.inputs, return_dict=True).logits.float()  # (B, C)
        return F.cross_entropy(logits, batch.labels)

    def predictions(self, examples: Examples, outputs: ModelOutputs) -> Predictions:
        """Return the most probable class of each text, and the probability of every class."""
        logits = torch.empty(len(examples), len(self.task.labels))  # (n, C)
        for batch, output in outputs.batches:
            logits[batch.rows] = output.logits.float().cpu()
        return Predictions(logits.argmax(1).tolist(), logits.softmax(1).tolist())

    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        """Return the task's metrics, by `torchmetrics`."""
        return self._metrics(_ids(predictions), _ids(examples.labels), are_checked=True)

    def resampled_metrics(
        self, predictions: Sequence[Any], examples: Examples, draws: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return metric → its value on each resample of the examples, shape (resamples,)."""
        predicted, wanted = _ids(predictions), _ids(examples.labels)  # (n,)
        found = [
            self._metrics(predicted[rows], wanted[rows], are_checked=False)
            for rows in map(torch.from_numpy, draws)
        ]
        return {name: np.array([one[name] for one in found]) for name in self.task.metrics}

    def _metrics(self, predicted: Tensor, wanted: Tensor, *, are_checked: bool) -> dict[str, float]:
        """Return the metrics of class ids, (n,); checking them takes longer than the rest."""
        from torchmetrics.functional import classification

        classes, check = len(self.task.labels), are_checked
        functions: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
            "accuracy": lambda p, w: _accuracy(
                classification.multiclass_stat_scores(
                    p, w, classes, average="micro", validate_args=check
                )
            ),
            "f1": partial(classification.binary_f1_score, validate_args=check),
            "macro_f1": lambda p, w: classification.multiclass_f1_score(
                p, w, classes, average="macro", validate_args=check
            ),
            "matthews_correlation": correlation(
                partial(classification.binary_matthews_corrcoef, validate_args=check)
            ),
        }
        return {name: float(functions[name](predicted, wanted)) for name in self.task.metrics}

    def constant(self, examples: Examples) -> str:
        """Return the most frequent class; of equally frequent ones, the task's first."""
        counts: Counter[int] = Counter(examples.labels)
        return self.task.labels[min(counts, key=lambda label: (-counts[label], label))]

    def known_constant(self, value: Any) -> str | None:
        """Return the value if it is a class of the task, else None."""
        return value if isinstance(value, str) and value in self.task.labels else None

    def constant_loss(self, features: Features) -> float:
        """Return the entropy of the classes, in nats."""
        return label_entropy(features.labels)

    def prediction_to_json(self, value: int) -> str:
        """Return the name of a class."""
        return self.task.labels[value]

    def prediction_from_json(self, value: Any) -> int:
        """Return the id of a class."""
        return self.task.labels.index(value)

    def confidence_to_json(self, confidence: Sequence[float]) -> dict[str, float]:
        """Return the probability of each class by its name."""
        return dict(zip(self.task.labels, confidence, strict=True))


def _ids(classes: Sequence[Any]) -> Tensor:
    return torch.tensor(classes, dtype=torch.int64)


def _accuracy(counts: Tensor) -> Tensor:
    """Return the accuracy, divided in float64: in float32, torchmetrics' 19 / 40 is not 0.475."""
    right, examples = counts[0], counts[-1]
    return right.double() / examples
