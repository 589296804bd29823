"""What every kind of task defines; a kind derives from `TaskKind` and overrides what differs.

Lifecycle of a task in a fine-tuning run::

    text, label      the cells of a record → texts and a label; class names are of training
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
from tamtctl.foundations.errors import TaskError, UsageError
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.kinds.plain_labels import plain_label
from tamtctl.tasks.kinds.table import KINDS, Kind
from tamtctl.tasks.task import Task

Record = tuple[str, Mapping[str, Any]]  # where it is from, for messages, and its columns


@dataclass(frozen=True)
class Predictions:
    """What a model says of each example.

    Attributes:
        values: What the kind predicts: a class id, a number, an answer's text …
        confidences: How sure the model is, in the kind's own way; None where it does not say.
    """

    values: list[Any]
    confidences: list[Any]


class TaskKind(ABC):
    """How the tasks of a kind are read, trained and measured; made for one task.

    Attributes:
        task: The task.
        has_own_ids: Whether an example keeps the ``id`` of its record.
        drawn: What is drawn for a standard error, as people call it; see `units`.
    """

    has_own_ids = False
    drawn = "examples"

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def row(self) -> Kind:
        """Its row on the shelf."""
        return KINDS[self.task.kind]

    # --- texts and labels --------------------------------------------------------------------

    def text(self, place: str, value: Any) -> str | tuple[str, ...]:
        """Return the cell of a text as a text, or as the words of one.

        Args:
            place: Where the cell is from, for messages.
            value: The cell, which is not missing.

        Raises:
            TaskError: It is none.
        """
        if not isinstance(value, str):
            raise TaskError(f"{place} is not a string but {value!r}")
        return value

    @abstractmethod
    def label(self, place: str, value: Any, texts: tuple[Any, ...]) -> Any:
        """Return the label of a record.

        Args:
            place: Where the record is from, for messages.
            value: The cell; neither missing nor blank.
            texts: The record's texts.

        Raises:
            TaskError: It is none.
        """

    @property
    @abstractmethod
    def no_label(self) -> Any:
        """A placeholder for the label of a text that is yet to be labelled."""

    def own_value(self, place: str, value: Any) -> Any:
        """Return the cell of a label in a user's own file, before the classes are known.

        Raises:
            TaskError: It can be no label.
        """
        return plain_label(place, value)

    @classmethod
    def looks_like(cls, values: Sequence[Any]) -> bool:
        """Tell whether labels of a user's own file, of no named kind, are taken for this one."""
        return False

    def with_labels_of(self, file: Path, values: Sequence[Any]) -> Task:
        """Return the task with the classes of a user's own training file.

        Args:
            file: The file, for messages.
            values: All its labels, as they are in the file.

        Raises:
            TaskError: They are no classes.
        """
        return self.task

    def own_records(self, file: Path) -> Iterator[Record]:
        """Yield the records of a file whose suffix is among the row's ``own_suffixes``.

        Args:
            file: Plain or compressed; of texts to be labelled, the task's label column is ``""``.

        Raises:
            TaskError: It is something else; the message names the line.
        """
        raise NotImplementedError

    def is_own_format(self, file: Path, suffix: str) -> bool:
        """Tell whether texts to be labelled are read by `own_records`; else each line is a text."""
        return suffix in self.row.own_suffixes

    def own_label_notes(self, values: Sequence[Any], *, is_guessed: bool) -> list[str]:
        """Return what a person should know of the labels of their own file.

        Args:
            values: As they are in the file.
            is_guessed: Whether nobody named the kind.
        """
        return []

    def label_notes(self, examples: Examples, where: str) -> list[str]:
        """Return what a person should know of the labels of a split, which ``where`` names."""
        return []

    def obstacle(self, examples: Examples) -> str | None:
        """Return why the primary metric is not defined on these dev examples, None if it is.

        A metric of 0 would be made up.
        """
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
        """Return a label's class, which no part of a split may lack; None: there are no classes."""
        return None

    def kept_together(self, texts: Sequence[list[Any]]) -> Sequence[list[str]]:
        """Return the texts that must stay in one part when examples are split if they are equal.

        Args:
            texts: The examples' columns; of a pair, the order makes no difference.
        """
        return texts

    def scale_of(self, labels: Iterable[Any]) -> LabelScale | None:
        """Return the scale that labels are trained in; None: as they are."""
        return None

    # --- the model ---------------------------------------------------------------------------

    def head(self) -> dict[str, Any]:
        """Return what a checkpoint's configuration says of the head; empty: nothing."""
        return {}

    def settings_for_others(self) -> dict[str, Any]:
        """Return what a saved checkpoint's configuration says for other libraries, besides."""
        return {}

    @abstractmethod
    def encode(self, inputs: TextInputs, examples: Examples) -> Encoded:
        """Return what a model reads of examples, and is trained on."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        """Return the mean loss of a batch, in float32."""

    @abstractmethod
    def predictions(
        self,
        model: PreTrainedModel,
        encoded: Encoded,
        examples: Examples,
        outputs: Iterable[tuple[TaskBatch, Any]],
        scale: LabelScale | None,
    ) -> Predictions:
        """Return what the model says of each example, in their order.

        Args:
            model: Without dropout.
            encoded: What it reads of the examples.
            examples: To predict.
            outputs: Batches of the features and what the model says of them, each once, in any
                order; the model runs as they are asked for.
            scale: In which the model was trained, if its head does not undo it yet.
        """

    def cut_note(self, parts: Sequence[Features], more: str) -> str | None:
        """Return the kind's own note on texts that are cut; None: the general one holds.

        Args:
            parts: What is read.
            more: How to read more, in a few words.
        """
        return None

    # --- metrics -----------------------------------------------------------------------------

    @abstractmethod
    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        """Return every metric of the task.

        Args:
            predictions: One for each example.
            examples: What was to be predicted.
        """

    def units(self, examples: Examples) -> int:
        """Return how many units there are to draw from: examples that do not hang together."""
        return len(examples)

    def resampled_metrics(
        self, predictions: Sequence[Any], examples: Examples, draws: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return every metric on resamples of the examples, (resamples,).

        Args:
            predictions: One for each example.
            examples: What was to be predicted.
            draws: The units of each resample, which are the rows unless `units` says otherwise.
        """
        found = [
            self.metrics([predictions[i] for i in rows], examples.take(rows))
            for rows in (draw.tolist() for draw in draws)
        ]
        return {name: np.array([one[name] for one in found]) for name in self.task.metrics}

    # --- the answer that needs no model ------------------------------------------------------

    @abstractmethod
    def constant(self, examples: Examples) -> str | float:
        """Return the one answer to every example that is most often right, as people read it."""

    def constant_predictions(self, value: str | float, examples: Examples) -> list[Any]:
        """Return a constant answer as a prediction for each example."""
        return [self.prediction_from_json(value)] * len(examples)

    def known_constant(self, value: Any) -> str | float | None:
        """Return a constant answer that a stranger's file names, None if it is none."""
        return value if isinstance(value, str) else None

    @abstractmethod
    def constant_loss(self, features: Features) -> float:
        """Return the lowest training loss of a model that says the same of every example.

        Args:
            features: The training set, with the labels as they are trained on.
        """

    def are_alike(self, predictions: Sequence[Any], examples: Examples) -> bool:
        """Tell whether predictions are one and the same, as far as the kind can tell."""
        return all(value == predictions[0] for value in predictions)

    def shared_answer(self, predictions: Sequence[Any]) -> str | float:
        """Return what predictions that are alike say, as people read it."""
        value = self.prediction_to_json(predictions[0])
        return value if isinstance(value, str | float) else str(value)

    # --- predictions.jsonl, --predict --------------------------------------------------------

    def prediction_to_json(self, value: Any) -> Any:
        """Return a prediction as people read it: the name of a class, a number, a text."""
        return value

    def prediction_from_json(self, value: Any) -> Any:
        """Return the prediction that `prediction_to_json` wrote."""
        return value

    def confidence_to_json(self, confidence: Any) -> Any:
        """Return a confidence as people read it."""
        return confidence

    def label_to_json(self, label: Any) -> Any:
        """Return a label as people read it."""
        return self.prediction_to_json(label)

    def label_to_cell(self, label: Any) -> Any:
        """Return a label as a file of one's own has it."""
        return self.label_to_json(label)

    def label_from_json(self, value: Any) -> Any:
        """Return the label that `label_to_json` wrote, as far as metrics need it."""
        return self.prediction_from_json(value)

    # --- shared ------------------------------------------------------------------------------

    def advice(self, own: str) -> str:
        """Return what to do about a label that does not fit; ``own`` says it of one's own files."""
        return f"check that the file is one of {self.task.name}" if self.task.is_public else own


def kind_of(task: Task) -> TaskKind:
    """Return how the examples of a task are read, trained and measured."""
    return code_of(task.kind)(task)


def code_of(kind: str) -> type[TaskKind]:
    """Return the class of a kind on the shelf.

    Raises:
        UsageError: Its file defines none.
    """
    found = KINDS[kind].function("Code")
    if not (isinstance(found, type) and issubclass(found, TaskKind)):
        raise UsageError(f"the Code of the kind of task {kind!r} is no class made of TaskKind")
    return found
