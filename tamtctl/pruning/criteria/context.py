"""What a criterion may use to rank weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.statistics.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Context:
    """The weights and, for a criterion that needs text, the live model and batches of text.

    Attributes:
        weights: Name → pre-trained weight of every matrix; never written.
        seed: The seed of the mask.
        encoder: The dense model, without dropout, on its device: ``encoder.matrices`` has the live
            parameters, ``encoder.base`` gives hidden states and ``encoder.model``, with a head,
            logits. Hooks that a criterion puts on it must be removed again. None unless the
            criterion needs text.
        batches: Returns an endless iterator over batches of the training text, on the model's
            device; every call gives the same batches. None unless the criterion needs text.
        calibration: The statistics of the model on a part of the text, see `statistic`. Its
            ``gather`` takes several names and collects them in one pass. None unless the criterion
            needs text.
        keep: Name → how many weights the matrix will keep; None if that is not known yet.
    """

    weights: Mapping[str, Tensor]
    seed: int = 1
    encoder: Encoder | None = None
    batches: Callable[[], Iterator[Batch]] | None = None
    calibration: Calibration | None = None
    keep: Mapping[str, int] | None = None

    def statistic(self, name: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Return name → weight and statistic, for every matrix that the statistic reaches.

        A statistic of zeros alone says nothing: its matrix has no part in what the text gives, as
        the adapter of another language.

        Args:
            name: A name in `tamtctl.pruning.statistics.table.STATISTICS`.
        """
        assert self.calibration is not None, "a row of the shelf says that its criterion needs_text"
        found = self.calibration[name]
        return {
            matrix: (weight, found[matrix].to(weight.device))
            for matrix, weight in self.weights.items()
            if matrix in found and found[matrix].any()
        }
