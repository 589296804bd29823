"""Relevance: how well a passage answers a query, from a pair of texts (a reranker).

The model has a single output. Its sigmoid is trained on the grade as a share of the highest grade
(Nogueira and Cho 2019, with one logit instead of two). A ``CrossEncoder`` of sentence-transformers
works like this, too, and loads the checkpoint. In a regression on pairs the output is the label
itself, so a sigmoid of it would mean nothing.

Metrics judge the order of each query's passages. They are means over the queries whose passages
have different grades; for standard errors, queries are resampled.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from tamtctl.models.pipeline_files import HEAD_SETTINGS
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import ModelOutputs, Predictions, TaskKind
from tamtctl.tasks.kinds.label_scale import exact_output
from tamtctl.tasks.kinds.plain_labels import as_number, plain_label
from tamtctl.tasks.task import Task

_TOP = 10  # passages of a query that metrics look at
_ALIKE = 1e-3  # predictions between 0 and 1 that differ by less are the same


@dataclass(frozen=True)
class Judgement:
    """How relevant a passage is to its query.

    Attributes:
        grade: From 0 to the highest grade of the task.
        query: The text of the query; passages are ranked within each query.
    """

    grade: float
    query: str


class Code(TaskKind):
    """A relevance between 0 and 1 for each pair, from a sequence classifier with one output."""

    drawn = "queries"
    ranks = True

    @property
    def no_label(self) -> Judgement:
        """Grade 0 for no query."""
        return Judgement(0.0, "")

    @property
    def _highest(self) -> float:
        return self.task.label_range[1] if self.task.label_range else 1.0

    def label(self, place: str, value: Any, texts: tuple[Any, ...]) -> Judgement:
        """Return the grade of a passage, from 0 to the highest of the training file."""
        grade = as_number(plain_label(place, value))
        if not 0 <= grade <= self._highest:
            advice = self.advice("0 is not relevant, and the highest is that of the training file")
            raise TaskError(
                f"{place}: the label {value!r} is no grade from 0 to {self._highest:g}; {advice}"
            )
        return Judgement(grade, texts[0])

    def own_value(self, place: str, value: Any) -> float:
        """Return a grade, before the highest one is known."""
        grade = as_number(plain_label(place, value))
        if not 0 <= grade < math.inf:
            raise TaskError(
                f"{place}: the label {value!r} is no grade, 0 of what is not relevant and more of "
                "what is; correct it, or give another --label-kind"
            )
        return grade

    def with_labels_of(self, file: Path, values: Sequence[Any]) -> Task:
        """Return the task with the highest grade of a training file."""
        grades = [as_number(value) for value in values]
        if len(set(grades)) < 2:
            raise TaskError(
                f"{file}: every label is {grades[0]:g}, and passages of different grades are needed"
            )
        return replace(self.task, label_range=(0.0, max(grades)))

    def obstacle(self, examples: Examples) -> str | None:
        """Return a clause if no query has passages of different grades, else None."""
        if any(map(_can_be_ordered, _queries(examples.labels).values())):
            return None
        return "the metrics compare orders, and no dev query has passages of different grades"

    def label_notes(self, examples: Examples, where: str) -> list[str]:
        """Return a note on queries that metrics leave out, as all grades are the same."""
        queries = list(_queries(examples.labels).values())
        alike = sum(not _can_be_ordered(grades) for grades in queries)
        if where.startswith("training") or not alike:
            return []
        return [
            f"{alike:,} of {len(queries):,} {where} queries have passages of but one grade; the "
            "metrics leave these out"
        ]

    def label_summary(self, examples: Examples) -> str:
        """Return the range of the grades."""
        return f"relevance, 0 to {self._highest:g}"

    def label_to_cell(self, label: Judgement) -> float:
        """Return the grade."""
        return label.grade

    def kept_together(self, texts: Sequence[list[Any]]) -> Sequence[list[str]]:
        """Return the queries: a split keeps the passages of one together."""
        return texts[:1]

    def head(self) -> dict[str, Any]:
        """Return the settings of a head with a single output, whose sigmoid is the relevance."""
        return {
            "num_labels": 1,
            "problem_type": "multi_label_classification",  # a sigmoid of each output
        }

    def settings_for_others(self) -> dict[str, Any]:
        """Return the settings by which a ``CrossEncoder`` applies the sigmoid."""
        return {HEAD_SETTINGS: {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}

    def encode(self, inputs: TextInputs, examples: Examples) -> Encoded:
        """Return pairs with their grades as shares of the highest one, (n,)."""
        shares = [label.grade / self._highest for label in examples.labels]
        return Encoded(inputs.features(examples.texts, torch.tensor(shares, dtype=torch.float32)))

    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        """Return the binary cross entropy, in nats."""
        logits = model(**batch.inputs, return_dict=True).logits.float()  # (B, 1)
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), batch.labels)

    def predictions(self, examples: Examples, outputs: ModelOutputs) -> Predictions:
        """Return the relevance of each pair, without a confidence."""
        scores = torch.empty(len(examples), dtype=torch.float64)  # tells sigmoids near 1 apart
        with exact_output(outputs.model):  # in bf16 passages would tie
            for batch, output in outputs.batches:
                scores[batch.rows] = output.logits.squeeze(1).cpu().double().sigmoid()
        return Predictions(scores.tolist(), [None] * len(examples))

    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        """Return nDCG@10 and the reciprocal rank within 10: means over queries, by `torchmetrics`.

        Where passages of a query have equal predictions, nDCG takes the mean over their orders, and
        the reciprocal rank puts the least relevant first.
        """
        table = self._of_each_query(predictions, examples)
        return {name: _mean(values) for name, values in table.items()}

    def units(self, examples: Examples) -> int:
        """Return the number of queries whose passages have different grades."""
        return sum(map(_can_be_ordered, _queries(examples.labels).values()))

    def resampled_metrics(
        self, predictions: Sequence[Any], examples: Examples, draws: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the metrics as means over the queries of each resample."""
        table = self._of_each_query(predictions, examples)
        return {n: np.array([_mean(v[rows]) for rows in draws]) for n, v in table.items()}

    def _of_each_query(
        self, predictions: Sequence[Any], examples: Examples
    ) -> dict[str, NDArray[np.float64]]:
        """Return metric → its value for each query with different grades, shape (queries,)."""
        from torchmetrics.functional import retrieval

        found: dict[str, list[float]] = {name: [] for name in ("ndcg@10", "mrr@10")}
        for pairs in _queries(examples.labels, predictions).values():
            grades, scores = np.array(pairs, float).T  # (passages,)
            if not _can_be_ordered(grades):
                continue
            gains = torch.from_numpy(grades.copy())
            # Ranks, as torchmetrics computes in float32, in which values near 1 would be equal.
            places = torch.from_numpy(np.unique(scores, return_inverse=True)[1]).float()
            ndcg = retrieval.retrieval_normalized_dcg(places, gains, _TOP)
            found["ndcg@10"].append(float(ndcg))
            found["mrr@10"].append(_reciprocal_rank(grades, scores))
        return {name: np.array(values) for name, values in found.items()}

    def constant(self, examples: Examples) -> float:
        """Return the mean grade as a share of the highest one."""
        return statistics.fmean(label.grade for label in examples.labels) / self._highest

    def known_constant(self, value: Any) -> float | None:
        """Return the value as a number if it is one from 0 to 1, else None."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and 0 <= value <= 1 else None

    def constant_loss(self, features: Features) -> float:
        """Return the binary entropy of the mean share, in nats."""
        mean = features.labels.double().mean()
        return float(F.binary_cross_entropy(mean, mean))

    def are_alike(self, predictions: Sequence[Any], examples: Examples) -> bool:
        """Return whether all predictions differ by less than a thousandth."""
        return bool(max(predictions) - min(predictions) < _ALIKE)

    def label_to_json(self, label: Judgement) -> dict[str, Any]:
        """Return grade and query."""
        return {"grade": label.grade, "query": label.query}

    def label_from_json(self, value: Any) -> Judgement:
        """Return the judgement of an object."""
        return Judgement(float(value["grade"]), str(value["query"]))


def _queries(
    labels: Sequence[Judgement], scores: Sequence[float] | None = None
) -> Mapping[str, list[Any]]:
    """Return query → grades of its passages, or with ``scores`` pairs of grade and prediction."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for number, label in enumerate(labels):
        found[label.query].append((label.grade, scores[number]) if scores else label.grade)
    return found


def _reciprocal_rank(grades: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return the reciprocal rank of the first relevant passage, its mean over the orders of ties.

    So nDCG takes ties, too. Those of torchmetrics are in the order of the file.
    """
    score = scores[grades > 0].max()
    above, tied = int((scores > score).sum()), grades[scores == score]
    count, relevant = len(tied), int((tied > 0).sum())
    ways = math.comb(count, relevant)  # of placing the relevant ones
    return sum(
        math.comb(count - place, relevant - 1) / ways / (above + place)
        for place in range(1, count - relevant + 2)  # of the first relevant one among the tied
        if above + place <= _TOP
    )


def _can_be_ordered(grades: Sequence[float] | NDArray[np.float64]) -> bool:
    return bool(min(grades) < max(grades))


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean; 0 if there are no values, like the correlation with a constant."""
    return float(values.mean()) if len(values) else 0.0
