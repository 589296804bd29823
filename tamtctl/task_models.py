"""Models with a task's head: how texts become their input, and their output loss and predictions.

Three kinds of task, three heads: a class for each text, a number for each text, and for a question
the first and last token of its answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tamtctl.devices import Autocast
from tamtctl.errors import DivergedError, ModelError, UsageError
from tamtctl.features import Features, TaskBatch, Windows, span_windows, text_features
from tamtctl.models import load_config, load_with_task_head, max_sequence_length
from tamtctl.task_data import Examples
from tamtctl.tasks import Task

# What a checkpoint was fine-tuned on, and how; written last, it makes a seed's folder complete.
SEED_METRICS = "metrics.json"

# SQuAD's n-best search: so many starts and ends of each window, and so many tokens at most.
_N_BEST, _LONGEST_ANSWER = 20, 30


@dataclass(frozen=True)
class Predictions:
    """What a model says of each example.

    Attributes:
        values: A class id, a number, or an answer's text.
        confidences: The probability of each class, or the score of the answer; None of a number.
    """

    values: list[Any]
    confidences: list[Any]


def load_for_training(
    task: Task, name: str, revision: str | None = None
) -> tuple[PreTrainedModel, set[str]]:
    """Load a pre-trained encoder under a new head for the task, which is random.

    Raises:
        ModelError: It cannot be loaded, or is a checkpoint of a task with another head.
    """
    config = load_config(name, revision)
    _refuse_other_head(task, name, config)
    return load_with_task_head(_auto(task), name, revision=revision, **_head(task))


def load_fine_tuned(task: Task, name: str, revision: str | None = None) -> PreTrainedModel:
    """Load a checkpoint that has been fine-tuned on a task of the kind and the classes of ``task``.

    Raises:
        ModelError: It cannot be loaded, or has another head, or none.
    """
    config = load_config(name, revision)
    _refuse_other_head(task, name, config)
    model, missing = load_with_task_head(_auto(task), name, revision=revision)
    if missing:
        raise ModelError(
            f"model {name!r} is not fine-tuned for {task.name} (it lacks {min(missing)}); "
            f"make a checkpoint with tamtctl finetune {task.name}"
        )
    return model


def _auto(task: Task) -> Any:
    return (
        AutoModelForQuestionAnswering if task.kind == "span" else AutoModelForSequenceClassification
    )


def _head(task: Task) -> dict[str, Any]:
    """Return what a checkpoint's configuration says of the head."""
    if task.kind == "span":
        return {}
    if task.kind == "regression":
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: i for i, label in enumerate(task.labels)},
        "problem_type": "single_label_classification",
    }


def _refuse_other_head(task: Task, name: str, config: PreTrainedConfig) -> None:
    architecture = (config.architectures or [""])[0]
    found = f"model {name!r} is a {architecture}"
    instead = f"give a pre-trained model, or a checkpoint of {task.name}"
    is_span = architecture.endswith("ForQuestionAnswering")
    is_text = architecture.endswith("ForSequenceClassification")
    if (is_span and task.kind != "span") or (is_text and task.kind == "span"):
        raise ModelError(f"{found}, whose head does not fit {task.name}; {instead}")
    wanted = len(task.labels) or 1
    if is_text and config.num_labels != wanted:
        raise ModelError(
            f"{found} with {config.num_labels} outputs, and {task.name} needs {wanted}; {instead}"
        )
    names = class_names(config) if is_text and task.labels else None
    if names and set(names) != {label.lower() for label in task.labels}:
        raise ModelError(f"{found} of the classes {', '.join(names)}; {instead}")


def class_names(config: PreTrainedConfig) -> list[str] | None:
    """Return the classes of a checkpoint in lower case, by their ids; None if they have no names.

    By default they are called LABEL_0 and so on.
    """
    names = [str(label).lower() for _, label in sorted((config.id2label or {}).items())]
    return None if all(name.startswith("label_") for name in names) else names


@dataclass(frozen=True)
class Encoding:
    """How a model takes the texts of a task.

    Attributes:
        task: The task.
        tokenizer: The model's.
        max_length: Tokens per example or window.
        takes_types: Whether the model tells the two texts of a pair apart by ``token_type_ids``.
    """

    task: Task
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    takes_types: bool

    @classmethod
    def of(
        cls,
        task: Task,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        max_length: int | None = None,
    ) -> Encoding:
        """Return the encoding of a task for a model.

        Args:
            task: The task.
            model: Loaded with any head.
            tokenizer: The model's.
            max_length: Tokens per example; None: the task's, or as many as the model can take.

        Raises:
            UsageError: The model cannot take ``max_length`` tokens.
        """
        longest = max_sequence_length(model)
        if max_length is not None and max_length > longest:
            raise UsageError(
                f"--max-length {max_length} is more than the model can take; give at most {longest}"
            )
        takes_types = (
            "token_type_ids" in tokenizer.model_input_names
            and "token_type_ids" in inspect.signature(model.forward).parameters
            and getattr(model.config, "type_vocab_size", 0) > 1
        )
        return cls(task, tokenizer, max_length or min(task.max_length, longest), takes_types)

    def texts(self, examples: Examples, pad_to: int | None = None) -> Features:
        """Return the features of examples of a class or a number each."""
        is_number = self.task.kind == "regression"
        labels = torch.tensor(examples.labels, dtype=torch.float32 if is_number else torch.int64)
        return text_features(
            examples.texts,
            labels,
            self.tokenizer,
            max_length=self.max_length,
            takes_types=self.takes_types,
            pad_to=pad_to,
        )

    def windows(self, examples: Examples) -> Windows:
        """Return the windows of questions."""
        questions, contexts = examples.texts
        return span_windows(
            questions,
            contexts,
            examples.labels,
            self.tokenizer,
            max_length=self.max_length,
            stride=self.task.stride,
            takes_types=self.takes_types,
        )

    def for_training(self, examples: Examples) -> Features:
        """Return what a model is trained on."""
        return self.windows(examples).features if self.task.kind == "span" else self.texts(examples)


def loss(task: Task, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
    """Return the mean loss of a batch, in float32: cross entropy or squared error."""
    output = model(**batch.inputs, return_dict=True)
    if task.kind == "span":
        starts, ends = output.start_logits.float(), output.end_logits.float()  # (B, T)
        first, last = batch.labels.unbind(1)  # (B,)
        return (F.cross_entropy(starts, first) + F.cross_entropy(ends, last)) / 2
    logits = output.logits.float()  # (B, C)
    if task.kind == "regression":
        return F.mse_loss(logits.squeeze(1), batch.labels)
    return F.cross_entropy(logits, batch.labels)


@torch.no_grad()
def predict(
    encoding: Encoding,
    model: PreTrainedModel,
    examples: Examples,
    *,
    batch_size: int,
    autocast: Autocast,
) -> Predictions:
    """Return what the model says of each example, in their order, without dropout."""
    model.eval()
    if encoding.task.kind == "span":
        return _predict_spans(encoding.windows(examples), model, examples, batch_size, autocast)
    features = encoding.texts(examples)
    logits = torch.empty(len(features), len(encoding.task.labels) or 1)  # (n, C)
    for batch, output in _outputs(features, model, batch_size, autocast):
        logits[batch.rows] = output.logits.float().cpu()
    if encoding.task.kind == "regression":
        return Predictions(logits.squeeze(1).tolist(), [None] * len(logits))
    return Predictions(logits.argmax(1).tolist(), logits.softmax(1).tolist())


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


def _predict_spans(
    windows: Windows,
    model: PreTrainedModel,
    examples: Examples,
    batch_size: int,
    autocast: Autocast,
) -> Predictions:
    """Return the best span of all windows of each question, cut from the context as it stands."""
    _, contexts = examples.texts
    best = [("", -np.inf)] * len(examples)
    for batch, output in _outputs(windows.features, model, batch_size, autocast):
        logits = zip(
            output.start_logits.float().cpu(), output.end_logits.float().cpu(), strict=True
        )
        for row, (starts, ends) in zip(batch.rows.tolist(), logits, strict=True):
            offsets, example = windows.offsets[row], int(windows.examples[row])
            first, last, score = best_span(starts, ends, offsets)
            if score > best[example][1]:
                text = contexts[example][offsets[first, 0] : offsets[last, 1]]
                best[example] = (text, score)
    return Predictions([text for text, _ in best], [score for _, score in best])


def best_span(starts: Tensor, ends: Tensor, offsets: NDArray[np.int32]) -> tuple[int, int, float]:
    """Return first token, last token and score of a window's best span.

    Of the 20 best starts and ends, pairs that lie in the context, in order, and span at most 30
    tokens are candidates; their score is the sum of the two logits.

    Args:
        starts: Logit of each token as a start, shape (T',) with T' ≥ T.
        ends: The same as an end.
        offsets: Characters of each token, (0, 0) outside of the context, shape (T, 2).
    """
    outside = torch.from_numpy(offsets[:, 1] == 0)  # (T,)
    count = min(_N_BEST, int((~outside).sum()))
    start_scores, firsts = starts[: len(outside)].masked_fill(outside, -torch.inf).topk(count)
    end_scores, lasts = ends[: len(outside)].masked_fill(outside, -torch.inf).topk(count)
    lengths = lasts - firsts[:, None] + 1  # (count, count)
    scores = start_scores[:, None] + end_scores
    scores = scores.masked_fill((lengths < 1) | (lengths > _LONGEST_ANSWER), -torch.inf)
    place = int(scores.argmax())
    first, last = firsts[place // count], lasts[place % count]
    return int(first), int(last), float(scores.flatten()[place])
