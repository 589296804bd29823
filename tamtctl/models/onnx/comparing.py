"""Comparing the outputs of an ONNX file with those of the model that it was written from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tamtctl.models.encoder import max_sequence_length
from tamtctl.models.onnx.graph import Called

# Takes name → input, and returns the outputs; an `OnnxModel` is one.
Run = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]

_SHAPES = ((2, 7), (1, 1), (1, 12), (5, 3), (3, 64))  # number of texts, tokens of the longest
_SEED = 1


@dataclass(frozen=True)
class Difference:
    """The difference of two models' outputs, on tokens that are not padding.

    Attributes:
        largest: The largest absolute difference of two numbers, divided by the largest absolute
            output if that is above 1.
        relative: Root mean square of the differences, divided by that of the outputs.
    """

    largest: float
    relative: float


def difference(model: Called, written: Run) -> Difference:
    """Compare a model with its graph, or another model, on random batches of several shapes."""
    generator = torch.Generator().manual_seed(_SEED)
    largest = highest = squares = of_all = 0.0
    longest = max_sequence_length(model.network)
    for texts, length in _SHAPES:
        values = _inputs(model, texts, min(length, longest), generator)
        with torch.no_grad():
            wanted = model(*values.values())
        for one, other in zip(wanted, written(values), strict=True):
            seen = (
                values["attention_mask"].bool()
                if one.dim() > 1 and one.shape[1:2] == (values["input_ids"].shape[1],)
                else torch.ones(len(one), dtype=torch.bool)
            )
            gap = (one - other)[seen].double()
            largest = max(largest, float(gap.abs().max()))
            highest = max(highest, float(one[seen].abs().max()))
            squares += float(gap.square().sum())
            of_all += float(one[seen].double().square().sum())
    return Difference(largest / max(highest, 1.0), math.sqrt(squares / max(of_all, 1e-300)))


def run_in_torch(model: Called) -> Run:
    """Return a model in the form that `difference` compares with another one."""

    def run(values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = model(*(values[name] for name in model.inputs))
        return outputs

    return run


def _inputs(
    model: Called, texts: int, length: int, generator: torch.Generator
) -> Mapping[str, Tensor]:
    """Return name → input of random texts, (B, T); all but the first may be padded."""
    words = model.network.config.vocab_size
    ids = torch.randint(words, (texts, length), generator=generator)
    lengths = torch.randint(1, length + 1, (texts, 1), generator=generator)
    lengths[0] = length
    mask = (torch.arange(length) < lengths).long()
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: values[name] for name in model.inputs}
