"""The result of an evaluation, and a checkpoint's predictions for a user's own texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.foundations.measured_text import MeasuredText, SequenceFacts
from tamtctl.foundations.shown import Shown
from tamtctl.tasks.finetuning.known_runs import KnownRun

OWN_FIELDS = ("prediction", "confidence")  # fields of a line with its answer


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """The result of an evaluation.

    Attributes:
        name: The ticket, model or checkpoint as the user named it.
        task: The task, objective or benchmark that it was measured on.
        metric: Name of the primary metric; ``score`` and ``standard_error`` are its.
        score: Value of the primary metric; a loss is a mean per target, in ``unit``.
        standard_error: Standard error of the score over held-out texts or dev sets of this size;
            None if there are too few sequences or examples.
        metrics: Metric → its value.
        standard_errors: Metric → its standard error.
        intervals: Metric → the ends of its 95 % bootstrap interval; empty without a bootstrap.
        examples: How many examples, sequences of text, or queries were scored.
        resampled: Returns metric → its value on each resample of the examples, the same ones for
            every model; nothing where groups are too few, and for what no comparison measures.
        groups: How many groups of queries a resample draws whole; None if they have no groups.
        sparsity: Share of zeros in the masked matrices of a ticket; None if unknown.
        data: The data that were read.
        head: The masked-LM head that was used, ``pretrained`` or ``ticket``; None without one.
        dev_selected: Whether the checkpoint was chosen by its metric on this dev set, so that
            the score is too good.
        unit: The unit of a loss; None for metrics of tasks.
        units: Loss → its unit.
        text: The text that a loss was measured on; None for metrics of tasks.
        sequences: How that text was cut into sequences; None for metrics of tasks.
        embeddings: How sentence embeddings were made (``stsb-zero-shot``).
        cut: How many examples had a text that was too long and was cut.
        notes: Notes to read before the score is believed, a line each.
        constant_answer: The most frequent class or answer, or the mean label; None for a loss.
        constant_split: The examples that it was taken from: ``training`` or, if these are not
            known, ``dev``.
        constant_scores: Metric → its value if every example gets the constant answer.
        beside: Runs under ``runs/`` of the dense model, or of other tickets, that were fine-tuned
            in the same way and scored on these examples.

    Example:
        >>> found = tamtctl.evaluate(tamtctl.EvaluateConfig(name=tuned.checkpoint[0]))
        >>> found.task, found.score == tuned.mean
        ('topics', True)
    """

    name: str
    task: str
    metric: str
    score: float
    standard_error: float | None
    metrics: dict[str, float]
    standard_errors: Mapping[str, float | None]
    examples: int
    sparsity: float | None
    data: str
    head: str | None = None
    dev_selected: bool = False
    unit: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    text: MeasuredText | None = None
    sequences: SequenceFacts | None = None
    embeddings: str | None = None
    cut: int = 0
    notes: tuple[str, ...] = ()
    constant_answer: str | float | None = None
    constant_split: str | None = None
    constant_scores: Mapping[str, float] = field(default_factory=dict)
    beside: Sequence[KnownRun] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    resampled: Callable[[], Mapping[str, NDArray[np.float64]]] = field(default=dict, compare=False)
    groups: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        del values["text"], values["sequences"], values["resampled"], values["groups"]
        if not self.intervals:
            del values["intervals"]
        if self.text is None or self.sequences is None:
            return values
        return values | {
            "rows": self.sequences.rows,
            "mean_length": self.sequences.mean_length,
            "unknown": self.sequences.unknown,
            "cut_off": self.sequences.cut,
            "text": self.text.name,
            "sequences": self.text.sequences,
            "sequences_there": self.text.of,
            "sequence_length": self.text.sequence_length,
        }


@dataclass(frozen=True, repr=False)
class Labelled(Shown):
    """A user's own texts with a checkpoint's predictions.

    Attributes:
        task: The task that the checkpoint was fine-tuned on.
        texts: For each example, its one or two texts, or its words.
        predictions: For each example, a class, a number or an answer, or a tag for each word.
        confidences: For each example, class → probability, the sum of an answer's two logits, the
            probability of each tag, or None.
        cut: How many of the examples were too long and were cut.
        notes: Notes on the predictions, a line each.
        records: The object of each line, if the texts are from a JSON lines file; else None.

    Example:
        >>> labelled = tamtctl.label(checkpoint, "my-text.txt")
        >>> labelled.task, sorted(labelled.confidences[0])
        ('topics', ['file', 'list'])
    """

    task: str
    texts: list[tuple[Any, ...]]
    predictions: list[Any]
    confidences: list[Any]
    cut: int = 0
    notes: tuple[str, ...] = ()
    records: Sequence[Mapping[str, Any]] | None = None

    def to_records(self) -> list[dict[str, Any]]:
        """Return an object for each text, with its ``prediction`` and ``confidence``.

        The other fields are those of the line in a JSON lines file; for other files, the ``text``.
        A line's own fields of those two names are replaced.
        """
        texts = ({"text": one[0] if len(one) == 1 else list(one)} for one in self.texts)
        rows = zip(self.records or texts, self.predictions, self.confidences, strict=True)
        return [
            {**record, "prediction": prediction, "confidence": confidence}
            for record, prediction, confidence in rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rows = zip(self.texts, self.predictions, self.confidences, strict=True)
        return {
            "task": self.task,
            "predictions": [
                {"text": list(text), "prediction": prediction, "confidence": confidence}
                for text, prediction, confidence in rows
            ],
            "cut": self.cut,
            "notes": list(self.notes),
        }
