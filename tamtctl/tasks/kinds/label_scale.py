"""The unit in which numbers are trained on, and how a head says them in their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from tamtctl.foundations.errors import TaskError
from tamtctl.tasks.kinds.class_order import output_layer

# Labels that vary so little, for their size or at all, that float32 blurs them; or that it cannot
# hold.
_LEAST_DEVIATION, _LEAST_DIFFERENCE, LARGEST_LABEL = 1e-5, 1e-30, 1e30
# So many standard deviations a head's constant may be off: further, it says other numbers.
_FARTHEST_START = 3.0


@dataclass(frozen=True)
class LabelScale:
    """Mean and standard deviation of the training labels, which a model is trained without.

    Attributes:
        mean: Is subtracted from a label, in the label's unit.
        deviation: A label is then divided by it, in the label's unit.
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: Iterable[float]) -> LabelScale:
        """Return the scale of the training labels.

        Raises:
            TaskError: They are too large or too small for a model's numbers, or too much alike.
        """
        values = torch.tensor(list(labels), dtype=torch.float64)
        mean, deviation = float(values.mean()), float(values.std(correction=0))
        largest = float(values.abs().max())
        least = max(_LEAST_DEVIATION * largest, _LEAST_DIFFERENCE)
        are_alike = deviation < least and bool((values != values[0]).any())
        if largest > LARGEST_LABEL or are_alike:
            raise TaskError(
                f"the training labels lie around {mean:g} and differ by about {deviation:g}, which "
                "the numbers of a model (float32) cannot tell apart; subtract or divide by a "
                "constant"
            )
        return cls(mean, deviation or 1.0)

    def standardised(self, labels: Tensor) -> Tensor:
        """Return labels, (n,), as they are trained on: (label − mean) / deviation."""
        return ((labels.double() - self.mean) / self.deviation).float()

    def fold_into(self, model: PreTrainedModel) -> None:
        """Let a model that was trained on standardised labels say the labels themselves."""
        _, layer = output_layer(model)
        with torch.no_grad():
            layer.weight.mul_(self.deviation)
            layer.bias.copy_(layer.bias.double() * self.deviation + self.mean)

    def take_out_of(self, model: PreTrainedModel) -> bool:
        """Undo `fold_into`, unless the head says numbers far from the labels; return whether."""
        _, layer = output_layer(model)
        start = (layer.bias.double() - self.mean) / self.deviation
        if float(start.detach().abs().max()) > _FARTHEST_START:
            return False
        with torch.no_grad():
            layer.weight.div_(self.deviation)
            layer.bias.copy_(start)
        return True


def exact_output(model: PreTrainedModel) -> RemovableHandle:
    """Let a model's last layer compute in float32, until the handle is removed.

    In half precision a year or a price would be rounded to the next ten or hundred.
    """
    _, layer = output_layer(model)

    def again(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return F.linear(inputs[0].float(), layer.weight, layer.bias)

    return layer.register_forward_hook(again)
