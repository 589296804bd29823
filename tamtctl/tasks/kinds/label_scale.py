"""The scale in which numbers are trained on, and folding it into a head."""

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

# Least deviation of labels as a share of the largest one, and at all, that float32 can tell apart;
# and the largest label that it can hold.
_LEAST_DEVIATION, _LEAST_DIFFERENCE, LARGEST_LABEL = 1e-5, 1e-30, 1e30
# A head whose bias is more standard deviations off the labels is one for other numbers.
_FARTHEST_START = 3.0


@dataclass(frozen=True)
class LabelScale:
    """Mean and standard deviation of the training labels, for training on standardised labels.

    Attributes:
        mean: The mean, in the unit of the labels.
        deviation: The standard deviation (n), in the unit of the labels; 1 if all are equal.
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: Iterable[float]) -> LabelScale:
        """Return the scale of the training labels.

        Raises:
            TaskError: The labels are too large for float32, or too much alike.
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
        """Change a head that was trained on standardised labels so that it outputs the labels."""
        _, layer = output_layer(model)
        with torch.no_grad():
            layer.weight.mul_(self.deviation)
            layer.bias.copy_(layer.bias.cpu().double() * self.deviation + self.mean)

    def take_out_of(self, model: PreTrainedModel) -> bool:
        """Undo `fold_into` and return True; False if the head's numbers are far from the labels."""
        _, layer = output_layer(model)
        start = (layer.bias.cpu().double() - self.mean) / self.deviation
        if float(start.detach().abs().max()) > _FARTHEST_START:
            return False
        with torch.no_grad():
            layer.weight.div_(self.deviation)
            layer.bias.copy_(start)
        return True


def exact_output(model: PreTrainedModel) -> RemovableHandle:
    """Make a model's last layer compute in float32, until the handle is removed.

    In half precision, a year or a price would be rounded to tens or hundreds.
    """
    _, layer = output_layer(model)

    def again(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return F.linear(inputs[0].float(), layer.weight, layer.bias)

    return layer.register_forward_hook(again)
