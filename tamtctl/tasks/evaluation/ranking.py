"""Recall and nDCG of passages ranked by similarity, and how sure their means over queries are.

`torchmetrics` computes them; it is imported where it is used, since that takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES

RECALLS = (1, 10)
_DEPTH = 10  # of nDCG
PRIMARY = f"ndcg@{_DEPTH}"
METRICS = (*(f"recall@{k}" for k in RECALLS), PRIMARY)
RESAMPLES = 1000  # give the ends of an interval
_QUERIES_AT_ONCE = 256
_DIGITS = 6  # of a similarity that do not depend on which texts are computed together


def metrics_of_queries(
    queries: Tensor, passages: Tensor, relevant: Sequence[Mapping[int, int]]
) -> dict[str, NDArray[np.float64]]:
    """Return every metric of each query, (queries,).

    Of passages that are as similar to a query, recall counts those last that answer it, and nDCG
    takes the mean over their orders: no metric gains by a model that cannot tell them apart.

    Args:
        queries: Embeddings, shape (n, D); their products with those of passages rank these.
        passages: Embeddings, shape (m, D).
        relevant: For each query, place of a passage → how well it answers, at least 1.
    """
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        similarities = queries[start : start + _QUERIES_AT_ONCE] @ passages.T  # (n', m)
        similarities = similarities.double().round(decimals=_DIGITS)
        for of_query, answers in zip(similarities, relevant[start:], strict=False):
            for name, value in _metrics_of(of_query, answers).items():
                found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def _metrics_of(similarities: Tensor, answers: Mapping[int, int]) -> dict[str, float]:
    """Return the metrics of one query.

    Args:
        similarities: To each passage, shape (m,).
        answers: Place of a passage → how well it answers.
    """
    from torchmetrics.functional.retrieval import retrieval_normalized_dcg, retrieval_recall

    gains = torch.zeros(len(similarities), dtype=torch.int64)
    gains[list(answers)] = torch.tensor(list(answers.values()))
    depth = min(_DEPTH, len(similarities))
    # What is behind the first ones and answers nothing is in no metric.
    least = similarities.topk(depth).values[-1]
    seen = (similarities >= least) | (gains > 0)  # (m,)
    similarities, gains = similarities[seen], gains[seen]
    order = np.lexsort((gains.numpy() > 0, -similarities.numpy()))
    ranks = torch.empty(len(order), dtype=torch.float64)
    ranks[torch.from_numpy(order)] = torch.arange(len(order), 0, -1, dtype=torch.float64)
    return {
        **{f"recall@{k}": float(retrieval_recall(ranks, gains > 0, top_k=k)) for k in RECALLS},
        PRIMARY: float(retrieval_normalized_dcg(similarities, gains, top_k=_DEPTH)),
    }


def resampled_means(
    values: Mapping[str, NDArray[np.float64]], groups: Sequence[str]
) -> dict[str, NDArray[np.float64]] | None:
    """Return the mean of every metric on resamples of the groups, (`RESAMPLES`,).

    Whole groups are drawn with replacement, for queries of one group are no independent sample. The
    draws depend on nothing but the number of groups: any two models are measured on the same ones.
    None where there are too few groups to tell.

    Args:
        values: Metric → its value for each query, shape (n,).
        groups: The group of each; an empty name is a group of its own.
    """
    names = [group or f"\0{i}" for i, group in enumerate(groups)]
    known, of = np.unique(names, return_inverse=True)
    if len(known) < MIN_EXAMPLES:
        return None
    generator = np.random.Generator(np.random.Philox(key=0))
    draws = generator.multinomial(
        len(known), np.full(len(known), 1 / len(known)), size=RESAMPLES
    )  # (RESAMPLES, groups): how often each is drawn
    sizes = np.bincount(of)
    return {
        name: (draws @ np.bincount(of, column)) / (draws @ sizes) for name, column in values.items()
    }
