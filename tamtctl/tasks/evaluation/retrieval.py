"""Retrieval without training: passages are ranked by the similarity of sentence embeddings."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch.nn.functional as F  # noqa: N812, the field's own name for it

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.foundations.estimates import interval_of
from tamtctl.foundations.paths import expanded
from tamtctl.models.sentence_embeddings import COSINE, SentencePipeline
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.evaluation.checkpoint import FineTuned
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.embedding_models import load_embedding_model
from tamtctl.tasks.evaluation.options import check_model, check_options
from tamtctl.tasks.evaluation.ranking import METRICS, PRIMARY, metrics_of_queries, resampled_means
from tamtctl.tasks.evaluation.result import Evaluation
from tamtctl.tasks.evaluation.retrieval_files import Asked
from tamtctl.tasks.measures import Measure
from tamtctl.ticket.ticket import Ticket

_MAX_LENGTH = 512  # tokens of a text, unless the model or its tokenizer has a lower limit
_PRODUCTS = (COSINE, "dot", "dot_product")


def read(config: EvaluateConfig, row: Measure) -> Asked:
    """Read the files of this measure.

    Args:
        config: What to measure, and on what.
        row: The row of this measure on its shelf.

    Raises:
        TamtctlError: The options or a file is refused.
    """
    check_options(config, row.name)
    if missing := row.missing(config):
        raise UsageError(f"--task {row.name} needs {' and '.join(missing)}, too")
    return Asked.read(*map(expanded, row.settings(config).values()))


def check_embeddings(name: str) -> None:
    """Refuse a model whose embeddings are not compared by a product.

    Raises:
        ModelError: It is one, or its pooling is not known.
    """
    _check_similarity(SentencePipeline.of(name), name)


def _check_similarity(pipeline: SentencePipeline, name: str) -> None:
    if pipeline.similarity not in _PRODUCTS:
        raise ModelError(
            f"{name} compares embeddings by {pipeline.similarity!r}, which is not known here; "
            f"known are {', '.join(_PRODUCTS)}"
        )


def measure(
    config: EvaluateConfig, row: Measure, ticket: Ticket | None, fine_tuned: FineTuned | None
) -> Evaluation:
    """Rank the passages of a user's file for the queries of another one, and score the ranking.

    Args:
        config: What to measure, and on what.
        row: The row of this measure on its shelf.
        ticket: The ticket to measure; None for a model.
        fine_tuned: The checkpoint to measure, if it is one of a fine-tuning run.

    Raises:
        TamtctlError: The options, the model, the ticket or a file is refused.
    """
    asked = read(config, row)
    check_model(config, row.name, ticket)
    compute = Compute.choose(config.device, config.precision, config.threads)
    encoder, pipeline = load_embedding_model(config, ticket, fine_tuned, compute)
    _check_similarity(pipeline, encoder.id)
    inputs = TextInputs.of(encoder.model, encoder.tokenizer, _MAX_LENGTH)
    of_queries, of_passages = pipeline.for_queries(), pipeline.for_passages()
    (queries, cut), (passages, passages_cut) = (
        one.embed(inputs, encoder.model, texts.texts, config.batch_size, compute)
        for one, texts in ((of_queries, asked.queries), (of_passages, asked.passages))
    )
    if pipeline.similarity == COSINE:
        queries, passages = F.normalize(queries, dim=1), F.normalize(passages, dim=1)
    values = metrics_of_queries(queries, passages, asked.relevant, asked.own)
    resampled = resampled_means(values, asked.queries.groups)
    means = {name: float(values[name].mean()) for name in METRICS}
    errors = {
        name: float(np.std(resampled[name], ddof=1)) if resampled else None for name in METRICS
    }
    pruned = ticket or fine_tuned
    return Evaluation(
        name=config.name,
        task=row.name,
        metric=PRIMARY,
        score=means[PRIMARY],
        standard_error=errors[PRIMARY],
        metrics=means,
        standard_errors=errors,
        intervals={name: interval_of(found) for name, found in (resampled or {}).items()},
        resampled=partial(dict, resampled or {}),
        groups=asked.queries.group_count,
        examples=len(asked.queries),
        sparsity=pruned.sparsity if pruned else None,
        data=f"{asked.queries.name} against {len(asked.passages):,} passages of "
        f"{asked.passages.name}",
        embeddings=_words(of_queries, of_passages),
        cut=len(cut) + len(passages_cut),
        notes=(
            *filter(None, (pipeline.note,)),
            *_unused_prompts(pipeline),
            *_notes(asked, len(cut), len(passages_cut)),
        ),
    )


def _words(of_queries: SentencePipeline, of_passages: SentencePipeline) -> str:
    prompts = (("queries", of_queries.prompt), ("passages", of_passages.prompt))
    told = [f"prompt {prompt!r} for {side}" for side, prompt in prompts if prompt]
    return ", ".join([*told, of_queries.summary, f"{of_queries.similarity} similarity"])


def _unused_prompts(pipeline: SentencePipeline) -> list[str]:
    """Return notes on prompts that look meant for passages but that the library does not use."""
    names = [name for name in ("passage", "corpus") if pipeline.prompts.get(name)]
    if not names or "document" in pipeline.prompts:
        return []
    return [
        f"the model's prompt {names[0]!r} stands before no passage: as in sentence-transformers, "
        "the one called 'document' does, and there is none"
    ]


def _notes(asked: Asked, cut: int, passages_cut: int) -> list[str]:
    notes = []
    count = len(asked.queries)
    if asked.left_out:
        notes.append(
            f"{asked.left_out:,} of {count + asked.left_out:,} queries have no line in the "
            "table of relevance: they are left out"
        )
    if asked.own:
        notes.append(
            f"{len(asked.own):,} of {count:,} queries are passages, too, of the same id and text: "
            "as in BEIR, a query is not among its own answers"
        )
    if same := asked.same_ids:
        notes.append(
            f"{same:,} of {count:,} queries have the id of a passage of another text, which is "
            "ranked like all others; BEIR leaves it out"
        )
    if groups := asked.queries.group_count:
        many = "1 group" if groups == 1 else f"{groups:,} groups"
        notes.append(f"the queries are of {many}, which the intervals draw whole")
    for some, what, of in (
        (cut, "queries", count),
        (passages_cut, "passages", len(asked.passages)),
    ):
        if some:
            notes.append(f"{some:,} of {of:,} {what} are too long and are cut")
    return notes
