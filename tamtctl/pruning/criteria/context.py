"""What a criterion may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.models.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Context:
    """The weights, and for a criterion that needs text the live model and batches of it.

    Attributes:
        weights: Name → pre-trained weight of every matrix; never written.
        seed: The seed of the mask.
        encoder: The dense model, without dropout, on its device: ``encoder.matrices`` has the live
            parameters, ``encoder.base`` gives hidden states and ``encoder.model``, with a head,
            logits. What is hung on it is taken off again. None unless the criterion needs text.
        batches: Returns the batches of the training text, on the model's device, without end: as
            many as the criterion wants, and the same ones each time.
    """

    weights: Mapping[str, Tensor]
    seed: int = 1
    encoder: Encoder | None = None
    batches: Callable[[], Iterator[Batch]] | None = None
