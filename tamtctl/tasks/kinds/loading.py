"""Models with a task's head: how texts become their input, and their output loss and predictions.

Three kinds of task, three heads: a class for each text, a number for each text, and for a question
the first and last token of its answer.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

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

from tamtctl.data.padded_batches import (
    Features,
    TaskBatch,
    Windows,
    span_windows,
    text_features,
)
from tamtctl.foundations.devices import Autocast
from tamtctl.foundations.errors import DivergedError, ModelError, UsageError
from tamtctl.models.encoder import max_sequence_length
from tamtctl.models.loading import load_config, load_with_task_head
from tamtctl.tasks.kinds.class_order import (
    UNNAMED,
    ClassOrder,
    LabelScale,
    class_names,
    disagreement,
    exact_output,
    output_layer,
    reorder,
    with_new_head,
)
from tamtctl.tasks.labelled.records import Examples
from tamtctl.tasks.registry import Task

# What a head's outputs are to transformers, in words.
_MEANINGS = {
    "single_label_classification": "one class of several",
    "multi_label_classification": "any number of classes at once",
    "regression": "numbers",
}

# SQuAD's n-best search: so many starts and ends of each window, and so many tokens at most.
_N_BEST, _LONGEST_ANSWER = 20, 30


@dataclass(frozen=True)
class Predictions:
    """What a model says of each example.

    Attributes:
        values: A class id, a number, or an answer's text.
        confidences: The probability of each class, or the score of the answer; None of a number,
            and of the empty answer to an empty context.
    """

    values: list[Any]
    confidences: list[Any]


def load_for_training(
    task: Task,
    name: str,
    revision: str | None = None,
    *,
    scale: LabelScale | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[PreTrainedModel, set[str]]:
    """Load an encoder under a head for the task: the checkpoint's own if it is one, else a new one.

    Args:
        task: The task.
        name: ``nano``, a folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        scale: In which the labels are trained on (``regression``); None: as they are.
        note: Is told what a person should know of the head.

    Returns:
        The model, and the names of its parameters that are random.

    Raises:
        ModelError: It cannot be loaded, or is a checkpoint of a task with another kind of head.
    """
    config = load_config(name, revision)
    _refuse_other_head(task, name, config)
    if task.kind == "span":
        return load_with_task_head(_auto(task), name, revision=revision)
    order = ClassOrder.of(config, task.labels) if task.labels else None
    model, missing = load_with_task_head(
        _auto(task), name, revision=revision, ignore_mismatched_sizes=True, **_head(task)
    )
    layer_name, layer = output_layer(model)
    if scale and layer.bias is None:
        raise ModelError(f"the head of a {type(model).__name__} cannot take the labels' mean")
    if f"{layer_name}.weight" in missing:
        return model, missing
    is_of_texts = _is_text_classifier(config) and not _other_use(task, config)
    if is_of_texts and order and task.labels:
        reorder(model, order, task.labels)
        if not order.are_named:
            note(f"model {name}: {UNNAMED}")
        for line in disagreement(config):
            note(f"model {name}: {line}")
        return model, missing
    is_of_numbers = is_of_texts and not task.labels and config.num_labels == 1
    if is_of_numbers and (scale is None or scale.take_out_of(model)):
        return model, missing
    what = _what(task, config, is_of_numbers)
    note(f"the head of model {name} is for {what}; a new one is trained")
    fresh = with_new_head(_auto(task), model)
    prefix = fresh.base_model_prefix + "."
    return fresh, {n for n, _ in fresh.named_parameters() if not n.startswith(prefix)}


def _what(task: Task, config: PreTrainedConfig, is_of_numbers: bool) -> str:
    """Return what a checkpoint's head tells apart, in words."""
    if not _is_text_classifier(config):
        return f"another kind of task ({(config.architectures or ['?'])[0]})"
    is_choice = config.problem_type == "single_label_classification"  # then of these classes:
    if not is_choice and (other := _other_use(task, config)):
        return other
    if config.num_labels == 1 and class_names(config) == ["LABEL_0"]:
        return "numbers of another size" if is_of_numbers else "a number"
    return f"the classes {listed(class_names(config))}"


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names with commas between them, the first few of many."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def load_fine_tuned(
    task: Task,
    name: str,
    revision: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> PreTrainedModel:
    """Load a checkpoint that has been fine-tuned on a task of the kind and the classes of ``task``.

    The rows of its head are in the order of the task's classes, whatever the checkpoint's is.

    Args:
        task: The task.
        name: A folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        note: Is told what a person should know of the head.

    Raises:
        ModelError: It cannot be loaded, or has another head, or none.
    """
    config = load_config(name, revision)
    _refuse_other_head(task, name, config)
    instead = f"give a pre-trained model, or a checkpoint of {task.name}"
    found = f"model {name!r} is a {(config.architectures or [''])[0]}"
    wanted = len(task.labels) or 1
    is_text = _is_text_classifier(config)
    if is_text and task.kind != "span" and (other := _other_use(task, config)):
        raise ModelError(f"{found} for {other}, which {task.name} does not ask for; {instead}")
    if is_text and config.num_labels != wanted:
        raise ModelError(
            f"{found} with {config.num_labels} outputs, and {task.name} needs {wanted}; {instead}"
        )
    order = ClassOrder.of(config, task.labels) if is_text and task.labels else None
    if is_text and task.labels and order is None:
        raise ModelError(f"{found} of the classes {listed(class_names(config))}; {instead}")
    model, missing = load_with_task_head(_auto(task), name, revision=revision)
    if missing:
        raise ModelError(
            f"model {name!r} is not fine-tuned for {task.name} (it lacks {min(missing)}); "
            f"make a checkpoint with tamtctl finetune {task.name}"
        )
    if task.kind != "span" and not is_text:
        raise ModelError(f"{found}, whose head does not fit {task.name}; {instead}")
    if order is not None:
        for line in disagreement(config):
            note(line)
        reorder(model, order, task.labels)
        if not order.are_named:
            note(UNNAMED)
    return model


def _auto(task: Task) -> Any:
    return (
        AutoModelForQuestionAnswering if task.kind == "span" else AutoModelForSequenceClassification
    )


def _head(task: Task) -> dict[str, Any]:
    """Return what a checkpoint's configuration says of the head."""
    if task.kind == "regression":
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: i for i, label in enumerate(task.labels)},
        "problem_type": "single_label_classification",
    }


def _other_use(task: Task, config: PreTrainedConfig) -> str | None:
    """Return what the outputs of a head for texts mean, where that is not what the task asks."""
    meaning = config.problem_type
    if not meaning or meaning == _head(task)["problem_type"]:
        return None
    return _MEANINGS.get(meaning, meaning)


def _is_text_classifier(config: PreTrainedConfig) -> bool:
    return (config.architectures or [""])[0].endswith("ForSequenceClassification")


def _refuse_other_head(task: Task, name: str, config: PreTrainedConfig) -> None:
    architecture = (config.architectures or [""])[0]
    is_span = architecture.endswith("ForQuestionAnswering")
    is_text = _is_text_classifier(config)
    if (is_span and task.kind != "span") or (is_text and task.kind == "span"):
        raise ModelError(
            f"model {name!r} is a {architecture}, whose head does not fit {task.name}; "
            f"give a pre-trained model, or a checkpoint of {task.name}"
        )


@dataclass(frozen=True)
class Encoding:
    """How a model takes the texts of a task.

    Attributes:
        task: The task.
        tokenizer: The model's.
        max_length: Tokens per example or window.
        takes_types: Whether the model tells the two texts of a pair apart by ``token_type_ids``.
        longest: Tokens that the model can take at most.
        vocabulary: How many tokens the model knows.
    """

    task: Task
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    takes_types: bool
    longest: int
    vocabulary: int

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
            max_length: Tokens per example; None: the task's, or as many as the model can take and
                the tokenizer is meant for.

        Raises:
            UsageError: The model cannot take ``max_length`` tokens.
            ModelError: Tokens that were added to the tokenizer are none of the model's.
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
        usual = min(task.max_length, longest, tokenizer.model_max_length)
        vocabulary = int(cast(Any, model.get_input_embeddings()).weight.shape[0])
        found = cls(task, tokenizer, max_length or usual, takes_types, longest, vocabulary)
        found.check_vocabulary(max(tokenizer.get_added_vocab().values(), default=0))
        return found

    def check_vocabulary(self, largest: int) -> None:
        """Raise ModelError if the model does not know a token of this id."""
        if largest >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(largest)
            raise ModelError(
                f"the tokenizer has the token {token!r} with id {largest}, but the model knows "
                f"{self.vocabulary} tokens; save the tokenizer that belongs to it, or resize its "
                "embeddings"
            )

    @property
    def limits(self) -> tuple[int, int]:
        """Tokens of an example that are read, and those that the model can take."""
        return self.max_length, self.longest

    def texts(self, examples: Examples, pad_to: int | None = None) -> Features:
        """Return the features of examples of a class or a number each."""
        is_number = self.task.kind == "regression"
        labels = torch.tensor(examples.labels, dtype=torch.float32 if is_number else torch.int64)
        features = text_features(
            examples.texts,
            labels,
            self.tokenizer,
            max_length=self.max_length,
            takes_types=self.takes_types,
            pad_to=pad_to,
        )
        self.check_vocabulary(features.largest_id)
        return features

    def windows(self, examples: Examples) -> Windows:
        """Return the windows of questions."""
        questions, contexts = examples.texts
        windows = span_windows(
            questions,
            contexts,
            examples.labels,
            self.tokenizer,
            max_length=self.max_length,
            stride=self.task.stride,
            takes_types=self.takes_types,
        )
        self.check_vocabulary(windows.features.largest_id)
        return windows

    def encode(self, examples: Examples) -> Encoded:
        """Return what a model reads of examples."""
        if self.task.kind != "span":
            return Encoded(self.texts(examples))
        windows = self.windows(examples)
        return Encoded(windows.features, windows)

    def for_training(self, examples: Examples) -> Features:
        """Return what a model is trained on."""
        return self.encode(examples).features


@dataclass(frozen=True)
class Encoded:
    """What a model reads of examples.

    Attributes:
        features: Its inputs.
        windows: Where they are in the contexts of the questions (``span``).
    """

    features: Features
    windows: Windows | None = None


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
    encoded: Encoded | None = None,
    scale: LabelScale | None = None,
) -> Predictions:
    """Return what the model says of each example, in their order, without dropout.

    Args:
        encoding: How the model takes texts.
        model: Fine-tuned on the encoding's task.
        examples: To predict.
        batch_size: At once.
        autocast: For the forward pass.
        encoded: What `Encoding.encode` made of the examples, if it did.
        scale: In which the model was trained, if its head does not undo it yet.
    """
    model.eval()
    encoded = encoded or encoding.encode(examples)
    if encoded.windows:
        return _predict_spans(encoded.windows, model, examples, batch_size, autocast)
    is_number = encoding.task.kind == "regression"
    logits = torch.empty(len(examples), len(encoding.task.labels) or 1)  # (n, C)
    with ExitStack() as stack:
        if is_number:
            stack.callback(exact_output(model).remove)
        for batch, output in _outputs(encoded.features, model, batch_size, autocast):
            logits[batch.rows] = output.logits.float().cpu()
    if is_number:
        values = logits.squeeze(1)  # (n,)
        if scale:
            values = values.double() * scale.deviation + scale.mean
        return Predictions(values.tolist(), [None] * len(logits))
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
    """Return the best span of all windows of each question, cut from the context as it stands.

    A context without any token has an empty answer, and no score.
    """
    _, contexts = examples.texts
    best: list[tuple[str, float | None]] = [("", None)] * len(examples)
    for batch, output in _outputs(windows.features, model, batch_size, autocast):
        logits = zip(
            output.start_logits.float().cpu(), output.end_logits.float().cpu(), strict=True
        )
        for row, (starts, ends) in zip(batch.rows.tolist(), logits, strict=True):
            offsets, example = windows.offsets[row], int(windows.examples[row])
            if not offsets[:, 1].any():
                continue
            first, last, score = best_span(starts, ends, offsets)
            before = best[example][1]
            if score > (-math.inf if before is None else before):
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
