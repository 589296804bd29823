"""Recall and nDCG of passages ranked by similarity, and resamples of their means over queries.

`torchmetrics` computes them. Importing it takes seconds, so functions do it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.tasks.kinds.metrics import INTERVAL_RESAMPLES, MIN_EXAMPLES

RECALLS = (1, 10)
_DEPTH = 10  # passages that nDCG looks at
PRIMARY = f"ndcg@{_DEPTH}"
METRICS = (*(f"recall@{k}" for k in RECALLS), PRIMARY)
_QUERIES_AT_ONCE = 256
_DIGITS = 6  # of a similarity, beside the largest, that batching does not change


def metrics_of_queries(
    queries: Tensor,
    passages: Tensor,
    relevant: Sequence[Mapping[int, int]],
    own: Mapping[int, int],
) -> dict[str, NDArray[np.float64]]:
    """Return metric → its value for each query, shape (n,).

    Where passages are equally similar to a query, recall ranks those that answer it last, and nDCG
    takes the mean over their orders: a model gains nothing by not telling passages apart.

    Args:
        queries: Embeddings, shape (n, D); passages are ranked by their dot products with these.
        passages: Embeddings, shape (m, D).
        relevant: For each query, index of a passage → its grade, at least 1.
        own: Index of a query that is a passage itself → that of the passage, which is not ranked.
    """
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    # A power of two: dividing by it rounds nothing, and cosines stay as they are.
    scale = 2.0 ** (_exponent(queries) + _exponent(passages))
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        similarities = queries[start : start + _QUERIES_AT_ONCE] @ passages.T  # (n', m)
        similarities = (similarities.double() / scale).round(decimals=_DIGITS)
        for query in own.keys() & range(start, start + len(similarities)):
            similarities[query - start, own[query]] = -torch.inf
        for of_query, answers in zip(similarities, relevant[start:], strict=False):
            for name, value in _metrics_of(of_query, answers).items():
                found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def _exponent(embeddings: Tensor) -> int:
    """Return the power of two that is nearest to the longest of some embeddings, shape (n, D)."""
    longest = float(embeddings.norm(dim=1).max())
    return round(math.log2(longest)) if longest > 0 else 0


def _metrics_of(similarities: Tensor, answers: Mapping[int, int]) -> dict[str, float]:
    """Return the metrics of one query.

    Args:
        similarities: The similarity to each passage, shape (m,).
        answers: Index of a passage → its grade, at least 1.
    """
    from torchmetrics.functional.retrieval import retrieval_normalized_dcg, retrieval_recall

    gains = torch.zeros(len(similarities), dtype=torch.int64)
    gains[list(answers)] = torch.tensor(list(answers.values()))
    depth = min(_DEPTH, len(similarities))
    # Passages that are neither among the first nor relevant are in no metric.
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
    """Return metric → its mean over the queries of each resample, shape (`INTERVAL_RESAMPLES`,).

    Whole groups are drawn with replacement, as queries of one group are no independent sample. The
    draws depend only on the number of groups, so that all models are measured on the same ones.
    None if there are too few groups.

    Args:
        values: Metric → its value for each query, shape (n,).
        groups: The group of each query; a query with an empty name is a group of its own.
    """
    names = [group or f"\0{i}" for i, group in enumerate(groups)]
    known, of = np.unique(names, return_inverse=True)
    if len(known) < MIN_EXAMPLES:
        return None
    generator = np.random.Generator(np.random.Philox(key=0))
    draws = generator.multinomial(
        len(known), np.full(len(known), 1 / len(known)), size=INTERVAL_RESAMPLES
    )  # (INTERVAL_RESAMPLES, groups): how often each is drawn
    sizes = np.bincount(of)
    return {
        name: (draws @ np.bincount(of, column)) / (draws @ sizes) for name, column in values.items()
    }
