"""Extractive question answering: the first and last token of the answer in a text (SQuAD)."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Features, TaskBatch
from tamtctl.data.text.reading import open_binary, reading
from tamtctl.foundations.errors import TaskError
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Answers, Examples
from tamtctl.tasks.kinds.base import ModelOutputs, Predictions, Record, TaskKind
from tamtctl.tasks.kinds.metrics import label_entropy
from tamtctl.tasks.kinds.windows import Windows, span_windows

# SQuAD's n-best search: starts and ends tried in each window, and tokens of an answer at most.
_N_BEST, _LONGEST_ANSWER = 20, 30
_LONGEST_FILE = 2**27  # bytes, since it is held in memory as a whole; SQuAD has 3e7


class Code(TaskKind):
    """An answer cut from the context of a question, from two logits for every token."""

    has_own_ids = True

    @property
    def no_label(self) -> Answers:
        """No answer."""
        return Answers((), ())

    def label(self, place: str, value: Any, texts: tuple[Any, ...]) -> Answers:
        """Return the accepted answers, each of which must be in the context (the second text)."""
        try:
            answers = tuple(str(text) for text in value["text"])
            starts = tuple(int(start) for start in value["answer_start"])
            pairs = list(zip(answers, starts, strict=True))
        except (TypeError, KeyError, ValueError) as error:
            raise TaskError(
                f"{place}: answers must hold as many 'text' as 'answer_start', got {value!r}"
            ) from error
        if not pairs:
            raise TaskError(
                f"{place}: no answer; SQuAD v1.1 has one to every question, v2.0 has not"
            )
        for text, start in pairs:
            if texts[1][start : start + len(text)] != text:
                raise TaskError(
                    f"{place}: the answer {text!r} does not stand at {start} of its context"
                )
        return Answers(answers, starts)

    def own_records(self, file: Path) -> Iterator[Record]:
        """Yield the questions of a file in SQuAD's format."""
        return read_articles(file)

    def label_summary(self, examples: Examples) -> str:
        """Return the phrase that labels are answers cut from the context."""
        return "answers in the text"

    def kept_together(self, texts: Sequence[list[Any]]) -> Sequence[list[str]]:
        """Return the contexts: a split keeps the questions on one together."""
        return texts[1:]

    def encode(self, inputs: TextInputs, examples: Examples) -> Windows:
        """Return the questions with the windows of their contexts."""
        questions, contexts = examples.texts
        windows = span_windows(
            questions,
            contexts,
            examples.labels,
            inputs.tokenizer,
            max_length=inputs.max_length,
            stride=self.task.stride,
            takes_types=inputs.takes_types,
        )
        inputs.check_vocabulary(windows.features.largest_id)
        return windows

    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        """Return the mean of the cross entropies of the first and of the last token, in nats."""
        output = model(**batch.inputs, return_dict=True)
        starts, ends = output.start_logits.float(), output.end_logits.float()  # (B, T)
        first, last = batch.labels.unbind(1)  # (B,)
        return (F.cross_entropy(starts, first) + F.cross_entropy(ends, last)) / 2

    def predictions(self, examples: Examples, outputs: ModelOutputs) -> Predictions:
        """Return the text of the best span in all windows of each question, and its logits' sum.

        For a context without any token the answer is empty, and the confidence None.
        """
        encoded = outputs.encoded
        assert isinstance(encoded, Windows)
        _, contexts = examples.texts
        best: list[tuple[str, float | None]] = [("", None)] * len(examples)
        for batch, output in outputs.batches:
            logits = zip(
                output.start_logits.float().cpu(), output.end_logits.float().cpu(), strict=True
            )
            for row, (starts, ends) in zip(batch.rows.tolist(), logits, strict=True):
                offsets, example = encoded.offsets[row], int(encoded.examples[row])
                if not offsets[:, 1].any():
                    continue
                first, last, total = best_span(starts, ends, offsets)
                before = best[example][1]
                if total > (-math.inf if before is None else before):
                    text = contexts[example][offsets[first, 0] : offsets[last, 1]]
                    best[example] = (text, total)
        return Predictions([text for text, _ in best], [total for _, total in best])

    def cut_note(self, parts: Sequence[Features], more: str) -> str:
        """Return a note on how many questions are cut; contexts are read whole, in windows."""
        cut = sum(features.cut for features in parts)
        are = "questions are" if cut > 1 else "question is"
        return f"{cut:,} {are} longer than what is read of a question, and cut"

    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        """Return ``f1`` and ``exact_match`` of SQuAD v1.1: the best over the accepted answers.

        Predictions and examples are matched by position, as the ids of a file may repeat. Where
        nothing but articles and punctuation is predicted and wanted, F1 is 1, as the script of v2.0
        has it; that of v1.1 has 0.
        """
        from torchmetrics.functional.text import squad

        found: list[dict[str, Any]] = [
            {"id": str(place), "prediction_text": text} for place, text in enumerate(predictions)
        ]
        answers: list[Answers] = examples.labels
        wanted: list[dict[str, Any]] = [
            {"id": str(place), "answers": {"text": list(a.texts), "answer_start": list(a.starts)}}
            for place, a in enumerate(answers)
        ]
        percent = squad(found, wanted)
        return {name: float(percent[name]) / 100 for name in self.task.metrics}

    def resampled_metrics(
        self, predictions: Sequence[Any], examples: Examples, draws: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the means over each resample of the examples' metrics, each computed once."""
        each = [self.metrics([p], examples.take([i])) for i, p in enumerate(predictions)]
        table = {name: np.array([one[name] for one in each]) for name in self.task.metrics}
        return {name: np.array([v[rows].mean() for rows in draws]) for name, v in table.items()}

    def constant(self, examples: Examples) -> str:
        """Return the answer that is accepted by most questions."""
        texts: Counter[str] = Counter(
            text for answers in examples.labels for text in set(answers.texts)
        )
        return min(texts, key=lambda text: (-texts[text], text))

    def constant_loss(self, features: Features) -> float:
        """Return the mean of the entropies of the first and the last tokens of answers, in nats."""
        first, last = features.labels.unbind(1)  # (n,)
        return (label_entropy(first) + label_entropy(last)) / 2

    def label_to_json(self, label: Answers) -> list[str]:
        """Return the texts of the accepted answers."""
        return list(label.texts)

    def label_from_json(self, value: Any) -> Answers:
        """Return answers without their positions, which metrics do not need."""
        return Answers(tuple(value), (0,) * len(value))


def read_articles(file: Path) -> Iterator[Record]:
    """Yield a record for each question of a file in SQuAD's format.

    Args:
        file: JSON, plain or compressed: articles, their paragraphs, and the questions on each.

    Raises:
        TaskError: The file has another format.
    """
    try:
        with reading(file), file.open("rb") as raw, open_binary(file, raw) as binary:
            content = binary.read(_LONGEST_FILE + 1)
        if len(content) > _LONGEST_FILE:
            raise TaskError(f"{file} has more than {_LONGEST_FILE:,} bytes; give it in parts")
        articles = json.loads(content)["data"]
        numbers = itertools.count(1)
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = question.get("answers", [])  # a question to be answered has none
                    record = {
                        "id": question.get("id"),
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": {
                            "text": [answer["text"] for answer in answers],
                            "answer_start": [answer["answer_start"] for answer in answers],
                        },
                    }
                    name, number = question.get("id"), next(numbers)
                    yield f"{file}, question {number if name is None else name}", record
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError(
            f"{file} is not in SQuAD's format ({type(error).__name__}: {error})"
        ) from error


def best_span(starts: Tensor, ends: Tensor, offsets: NDArray[np.int32]) -> tuple[int, int, float]:
    """Return first token, last token and sum of the two logits of a window's best span.

    Candidates are pairs of the 20 best starts and ends that lie in the context, are in order and
    span at most 30 tokens. The pair with the largest sum is the best.

    Args:
        starts: Logit of each token as a start, shape (T',) with T' ≥ T.
        ends: Logit of each token as an end, shape (T',).
        offsets: First and last character of each token, (0, 0) outside the context, shape (T, 2).
    """
    outside = torch.from_numpy(offsets[:, 1] == 0)  # (T,)
    count = min(_N_BEST, int((~outside).sum()))
    start_logits, firsts = starts[: len(outside)].masked_fill(outside, -torch.inf).topk(count)
    end_logits, lasts = ends[: len(outside)].masked_fill(outside, -torch.inf).topk(count)
    lengths = lasts - firsts[:, None] + 1  # (count, count)
    sums = start_logits[:, None] + end_logits
    sums = sums.masked_fill((lengths < 1) | (lengths > _LONGEST_ANSWER), -torch.inf)
    place = int(sums.argmax())
    first, last = firsts[place // count], lasts[place % count]
    return int(first), int(last), float(sums.flatten()[place])
