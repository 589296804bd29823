"""The base class of kinds of task, `TaskKind`; a kind overrides what differs.

Lifecycle of a task in a fine-tuning run::

    text, label      the cells of a record → texts and a label
    head, load       the encoder under a head (`tamtctl.tasks.kinds.loading`)
    encode           examples → padded batches, with what predictions need of them
    loss             a batch → what is trained on
    predictions      the model's outputs → a prediction and a confidence for each example
    metrics          predictions beside labels; again on every resample, for standard errors
    to_json          predictions and labels → a row of ``predictions.jsonl``, and back
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Encoded, Features, TaskBatch
from tamtctl.foundations.errors import TaskError
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.kinds.plain_labels import plain_label
from tamtctl.tasks.kinds.table import KINDS, Kind
from tamtctl.tasks.task import Task

Record = tuple[str, Mapping[str, Any]]  # its place, for messages; column → cell


@dataclass(frozen=True)
class Predictions:
    """A model's predictions, one for each example.

    Attributes:
        values: One prediction for each example: a class id, a number, an answer's text …
        confidences: How sure the model is of each, in a form of the kind; None if it has none.
    """

    values: list[Any]
    confidences: list[Any]


@dataclass(frozen=True)
class ModelOutputs:
    """What a model says of examples.

    Attributes:
        model: The model, in evaluation mode.
        encoded: The examples as `TaskKind.encode` returned them.
        batches: Pairs of a batch and the model's output for it, in any order; iterating runs the
            model.
        scale: The scale of the labels in training, if the head's outputs are still in it.
    """

    model: PreTrainedModel
    encoded: Encoded
    batches: Iterable[tuple[TaskBatch, Any]]
    scale: LabelScale | None = None


class TaskKind(ABC):
    """How the tasks of a kind are read, trained and measured; made for one task.

    Attributes:
        task: The task.
        has_own_ids: Whether an example keeps the ``id`` of its record.
        drawn: The name of the units that are resampled for a standard error; see `units`.
        ranks: Whether it ranks passages for a query, reading both together.
    """

    has_own_ids = False
    drawn = "examples"
    ranks = False

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def row(self) -> Kind:
        """Its row on the shelf."""
        return KINDS[self.task.kind]

    # --- texts and labels --------------------------------------------------------------------

    def text(self, place: str, value: Any) -> str | tuple[str, ...]:
        """Return the text in a cell, as a string or as a tuple of words.

        Args:
            place: Where the cell is from, for messages.
            value: The cell, which is not missing.

        Raises:
            TaskError: The cell holds no text.
        """
        if not isinstance(value, str):
            raise TaskError(f"{place} is not a string but {value!r}")
        return value

    @abstractmethod
    def label(self, place: str, value: Any, texts: tuple[Any, ...]) -> Any:
        """Return the label of a record.

        Args:
            place: Where the record is from, for messages.
            value: The cell of the label; neither missing nor blank.
            texts: The record's texts.

        Raises:
            TaskError: The cell holds no label of the task.
        """

    @property
    @abstractmethod
    def no_label(self) -> Any:
        """A placeholder for the label of a text that is yet to be labelled."""

    def own_value(self, place: str, value: Any) -> Any:
        """Return the label in a cell of a user's own file, before the classes are known.

        Raises:
            TaskError: The cell cannot be a label of this kind.
        """
        return plain_label(place, value)

    @classmethod
    def looks_like(cls, values: Sequence[Any]) -> bool:
        """Return whether labels of a user's file, whose kind is not given, look like this kind."""
        return False

    def with_labels_of(self, file: Path, values: Sequence[Any]) -> Task:
        """Return the task with the classes of a user's own training file.

        Args:
            file: The file, for messages.
            values: All its labels, as they are in the file.

        Raises:
            TaskError: The labels make no classes.
        """
        return self.task

    def own_records(self, file: Path) -> Iterator[Record]:
        """Yield the records of a file whose suffix is among the row's ``own_suffixes``.

        Args:
            file: The file, plain or compressed; if its texts are to be labelled, the label column
                of the task is ``""``.

        Raises:
            TaskError: The file has another format; the message names the line.
        """
        raise NotImplementedError

    def is_own_format(self, file: Path, suffix: str) -> bool:
        """Return whether `own_records` reads a file to be labelled; else each line is a text."""
        return suffix in self.row.own_suffixes

    def own_label_notes(self, values: Sequence[Any], *, is_guessed: bool) -> list[str]:
        """Return notes on the labels of a user's own file.

        Args:
            values: The labels as they are in the file.
            is_guessed: Whether the kind was guessed from the labels.
        """
        return []

    def label_notes(self, examples: Examples, where: str) -> list[str]:
        """Return notes on the labels of a split, whose name is ``where``."""
        return []

    def obstacle(self, examples: Examples) -> str | None:
        """Return why the primary metric is not defined on these dev examples, None if it is."""
        metric, labels = self.row.metric(self.task.metrics[0]), examples.labels
        if not metric.needs_different_labels or any(label != labels[0] for label in labels):
            return None
        return (
            f"every dev label is {self.label_to_json(labels[0])}, and {metric.name} is not defined "
            "without two different ones"
        )

    @abstractmethod
    def label_summary(self, examples: Examples) -> str:
        """Return what the labels are taken for: the classes, or the range of the numbers."""

    def class_of(self, label: Any) -> Hashable:
        """Return the class of a label, which every part of a split has; None without classes."""
        return None

    def kept_together(self, texts: Sequence[list[Any]]) -> Sequence[list[str]]:
        """Return the columns by which a split keeps examples together: those that are equal there.

        Args:
            texts: The columns of the examples; the two texts of a pair may be in either order.
        """
        return texts

    def scale_of(self, labels: Iterable[Any]) -> LabelScale | None:
        """Return the scale of the labels in training; None: they are not scaled."""
        return None

    # --- the model ---------------------------------------------------------------------------

    def head(self) -> dict[str, Any]:
        """Return the settings of the head in a checkpoint's configuration."""
        return {}

    def settings_for_others(self) -> dict[str, Any]:
        """Return further settings of a saved checkpoint's configuration, for other libraries."""
        return {}

    @abstractmethod
    def encode(self, inputs: TextInputs, examples: Examples) -> Encoded:
        """Return examples as inputs of a model, with the labels that it is trained on."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        """Return the mean loss of a batch, in float32."""

    @abstractmethod
    def predictions(self, examples: Examples, outputs: ModelOutputs) -> Predictions:
        """Return the predictions for the examples, in their order.

        Args:
            examples: The examples.
            outputs: What the model says of them.
        """

    def cut_note(self, parts: Sequence[Features], more: str) -> str | None:
        """Return the kind's own note on texts that are cut; None: the general one is used.

        Args:
            parts: The inputs of the model.
            more: A phrase on how to read more tokens.
        """
        return None

    # --- metrics -----------------------------------------------------------------------------

    @abstractmethod
    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        """Return metric → its value, for every metric of the task.

        Args:
            predictions: One for each example.
            examples: The examples with their labels.
        """

    def units(self, examples: Examples) -> int:
        """Return the number of independent units that are resampled: examples or groups of them."""
        return len(examples)

    def resampled_metrics(
        self, predictions: Sequence[Any], examples: Examples, draws: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return metric → its value on each resample of the examples, shape (resamples,).

        Args:
            predictions: One for each example.
            examples: The examples with their labels.
            draws: For each resample, the indices of its units; these are the rows of examples
                unless the kind overrides `units`.
        """
        found = [
            self.metrics([predictions[i] for i in rows], examples.take(rows))
            for rows in (draw.tolist() for draw in draws)
        ]
        return {name: np.array([one[name] for one in found]) for name in self.task.metrics}

    # --- the answer that needs no model ------------------------------------------------------

    @abstractmethod
    def constant(self, examples: Examples) -> str | float:
        """Return the constant answer: a class name, a number or a text."""

    def constant_predictions(self, value: str | float, examples: Examples) -> list[Any]:
        """Return a constant answer as a prediction for each example."""
        return [self.prediction_from_json(value)] * len(examples)

    def known_constant(self, value: Any) -> str | float | None:
        """Return the constant answer in an untrusted file, None if the value is not one."""
        return value if isinstance(value, str) else None

    @abstractmethod
    def constant_loss(self, features: Features) -> float:
        """Return the lowest training loss of a model that predicts the same for every example.

        Args:
            features: The training set, with the labels that are trained on.
        """

    def are_alike(self, predictions: Sequence[Any], examples: Examples) -> bool:
        """Return whether all predictions are the same, or almost so for numbers."""
        return all(value == predictions[0] for value in predictions)

    def shared_answer(self, predictions: Sequence[Any]) -> str | float:
        """Return the answer that all predictions share: a class name, a number or a text."""
        value = self.prediction_to_json(predictions[0])
        return value if isinstance(value, str | float) else str(value)

    # --- predictions.jsonl, --predict --------------------------------------------------------

    def prediction_to_json(self, value: Any) -> Any:
        """Return a prediction as a JSON value: the name of a class, a number, a text."""
        return value

    def prediction_from_json(self, value: Any) -> Any:
        """Return the prediction that `prediction_to_json` wrote."""
        return value

    def confidence_to_json(self, confidence: Any) -> Any:
        """Return a confidence as a JSON value."""
        return confidence

    def label_to_json(self, label: Any) -> Any:
        """Return a label as a JSON value."""
        return self.prediction_to_json(label)

    def label_to_cell(self, label: Any) -> Any:
        """Return a label as the cell of a user's own file."""
        return self.label_to_json(label)

    def label_from_json(self, value: Any) -> Any:
        """Return the label that `label_to_json` wrote, as far as metrics need it."""
        return self.prediction_from_json(value)

    # --- shared ------------------------------------------------------------------------------

    def advice(self, own: str) -> str:
        """Return advice on a label that does not fit; ``own`` is that for a user's own files."""
        return f"check that the file is one of {self.task.name}" if self.task.is_public else own
