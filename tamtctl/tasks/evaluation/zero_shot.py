"""Similarity of sentences without training: cosines of embeddings correlated with labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch.nn.functional as F  # noqa: N812, the field's own name for it

from tamtctl.foundations.devices import Compute
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.benchmarks.table import zero_shot_tasks
from tamtctl.tasks.constant_answer import DEV, ConstantAnswer
from tamtctl.tasks.evaluation.checkpoint import FineTuned
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.embedding_models import load_embedding_model
from tamtctl.tasks.evaluation.options import check_model, check_options
from tamtctl.tasks.evaluation.result import Evaluation
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.metrics import (
    INTERVAL_RESAMPLES,
    metrics,
    resampled_metrics,
    standard_errors,
)
from tamtctl.tasks.labelled.notes import few_note
from tamtctl.tasks.labelled.opening import open_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.ticket.ticket import Ticket


def open_benchmark(config: EvaluateConfig, name: str) -> TaskData:
    """Find the data of a benchmark, without reading the examples yet.

    Args:
        config: Says where the data is.
        name: A name of `zero_shot_tasks`.

    Raises:
        TaskError: The folder has no such files, or the Hub has none.
    """
    return open_task(zero_shot_tasks()[name], Path(config.data_dir) if config.data_dir else None)


def evaluate_zero_shot(
    config: EvaluateConfig, name: str, ticket: Ticket | None, fine_tuned: FineTuned | None
) -> Evaluation:
    """Correlate a benchmark's labels with the cosine of sentence embeddings.

    Args:
        config: What to measure, and on what.
        name: A name of `zero_shot_tasks`.
        ticket: The ticket to measure; None for a model.
        fine_tuned: The checkpoint to measure, if it is one of a fine-tuning run.

    Raises:
        TamtctlError: The options, the model, the ticket or the data is refused.
    """
    check_options(config, name)
    check_model(config, name, ticket)
    pruned = ticket or fine_tuned
    compute = Compute.choose(config.device, config.precision, config.threads)
    data = open_benchmark(config, name)
    (examples,) = data.dev().values()
    encoder, pipeline = load_embedding_model(config, ticket, fine_tuned, compute)
    inputs = TextInputs.of(encoder.model, encoder.tokenizer, data.task.max_length)
    (first, cut), (second, cut_too) = (
        pipeline.embed(inputs, encoder.model, texts, config.batch_size, compute)
        for texts in examples.texts
    )
    cosines = F.cosine_similarity(first, second)  # (n,)
    found = metrics(data.task, cosines.tolist(), examples)
    errors = standard_errors(data.task, cosines.tolist(), examples)
    metric = data.task.primary_metric
    answer = ConstantAnswer.of(data.task, examples, DEV)
    return Evaluation(
        name=config.name,
        task=name,
        metric=metric,
        score=found[metric],
        standard_error=errors[metric],
        metrics=found,
        standard_errors=errors,
        examples=len(examples),
        sparsity=pruned.sparsity if pruned else None,
        data=data.name,
        embeddings=pipeline.words,
        cut=len(cut | cut_too),
        notes=(
            *filter(None, (pipeline.note,)),
            *few_note(data.task, examples, "dev"),
            *_cut_sentences(len(cut | cut_too), examples),
        ),
        constant_answer=answer.value,
        constant_split=answer.split,
        constant_scores=answer.metrics(data.task, {"": examples}),
        resampled=partial(
            resampled_metrics, data.task, cosines.tolist(), examples, INTERVAL_RESAMPLES
        ),
    )


def _cut_sentences(cut: int, examples: Examples) -> tuple[str, ...]:
    return (
        (f"{cut:,} of {len(examples):,} pairs have a sentence that is too long and is cut",)
        if cut
        else ()
    )
