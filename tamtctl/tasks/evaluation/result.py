"""What an evaluation found, and what a checkpoint says of one's own texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tamtctl.foundations.loss_units import ScoredText, SequenceFacts
from tamtctl.foundations.shown import Shown
from tamtctl.tasks.finetuning.known_runs import KnownRun


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What an evaluation found.

    Attributes:
        name: What was evaluated, as asked for.
        task: The task, objective or benchmark that it was measured on.
        metric: Name of the primary metric, which ``score`` and ``standard_error`` are of.
        score: The primary metric; a loss is a mean per target, in ``unit``.
        standard_error: How far another held-out text or dev set of this size would move it; None
            where there are too few sequences or examples to tell.
        metrics: Every metric.
        standard_errors: Metric → its standard error.
        intervals: Metric → the ends of its 95 % bootstrap interval; empty where none was taken.
        examples: Examples, sequences of text, or queries, that were scored.
        sparsity: Share of zeros in the masked matrices of a ticket; None if unknown.
        data: What was read.
        head: The masked-LM head, where there is one.
        dev_selected: The checkpoint was chosen by its metric on the dev set, which is an oracle.
        unit: The unit of a loss; None for metrics.
        units: Metric that is a loss → its unit.
        text: What a loss was taken on; None for metrics.
        sequences: What that text is cut into; None for metrics.
        embeddings: How sentence embeddings were made (``stsb-zero-shot``).
        cut: Examples of which a text was too long and was cut.
        notes: What a person should know before the metric is believed, a line each.
        constant_answer: The most frequent class or answer, or the mean label; None for a loss.
        constant_split: The examples it was taken from, ``training`` or (if those are not known)
            ``dev``.
        constant_scores: Every metric if each example gets that answer.
        beside: The dense model, or tickets, fine-tuned in the very same way under ``runs/``, as far
            as they are scored on these examples.

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
    text: ScoredText | None = None
    sequences: SequenceFacts | None = None
    embeddings: str | None = None
    cut: int = 0
    notes: tuple[str, ...] = ()
    constant_answer: str | float | None = None
    constant_split: str | None = None
    constant_scores: Mapping[str, float] = field(default_factory=dict)
    beside: Sequence[KnownRun] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        del values["text"], values["sequences"]
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
    """One's own text with a checkpoint's predictions.

    Attributes:
        task: What the checkpoint was fine-tuned on.
        texts: One or two for each example, or its words.
        predictions: A class, a number or an answer for each, or a tag for each of its words.
        confidences: The probability of each class by name, the sum of an answer's logits, the
            probability of each tag, or None.
        cut: How many of the examples were too long and were cut.
        notes: What a person should know of the predictions, a line each.
        records: The object of each line, if the texts are those of a JSON lines file.

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

        The other fields are those that the line of a JSON lines file has, else the ``text``.
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
