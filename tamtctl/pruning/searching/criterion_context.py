"""What a criterion of a search ranks by: the model, batches of text, and statistics of the text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from torch import nn

from tamtctl.data.batch import Batch
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Sequences
from tamtctl.data.streaming import StreamedText, batches_of
from tamtctl.foundations.devices import Compute
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import Criterion, asked
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.statistics.calibration import (
    SEED,
    Calibration,
    calibration_batches,
    rows_at_once,
)


@contextmanager
def criterion_context(
    config: SearchConfig,
    criterion: Criterion,
    encoder: Encoder,
    text: Sequences | StreamedText,
    context: Context,
) -> Iterator[Context]:
    """Add a model and its training text to a context; a criterion may run the model both ways.

    A model that was pre-trained on masked text is calibrated on masked text: without it, the mask
    token would seem to be unused. The calibration text does not depend on the objective.

    Args:
        config: The whole search.
        criterion: The criterion that gets them.
        encoder: The model on its device.
        text: The training text.
        context: The weights, the seed and the counts, to which model and text are added.
    """

    def sees_noise(row: Criterion) -> bool:
        return row.needs_noise or encoder.is_of_masked_text

    compute = Compute.choose(config.device, config.precision)
    make = batches_of(text)

    def batches() -> Iterator[Batch]:
        noise = Noise.of(encoder.tokenizer) if criterion.needs_noise else None
        for batch in make(config.batch_size, config.seed, noise=noise):
            yield batch.to(compute.device)

    masking = Noise.of(encoder.tokenizer) if sees_noise(criterion) else None
    calibration_text = calibration_batches(
        make(rows_at_once(config.sequence_length), SEED, noise=masking),
        config.calibration_tokens,
        None if isinstance(text, StreamedText) else len(text),
    )
    beside = [
        name
        for row in (*config.criteria, *asked())
        if row.needs_head <= config.needs_head and sees_noise(row) == sees_noise(criterion)
        for name in row.statistics
    ]
    calibration = Calibration(encoder, calibration_text, compute, beside)
    model = cast(nn.Module, encoder.model)
    was_training = model.training
    model.eval()
    try:
        yield replace(context, encoder=encoder, batches=batches, calibration=calibration)
    finally:
        model.train(was_training)
        model.zero_grad(set_to_none=True)
