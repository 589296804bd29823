"""The losses whose gradients statistics are made of: sums with one summand for each sequence.

A loss is a sum over the sequences of a batch, not a mean. So the gradient with respect to the
activations of one sequence is that of the sequence's own summand.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.pruning.objectives.outputs import at_least_float32


def log_likelihood(output: Any, batch: Batch, number: int) -> Tensor:
    """Return −log p of the true tokens at all masked positions, summed.

    Args:
        output: The model's output for the batch, with logits at the masked positions alone.
        batch: The batch.
        number: Index of the batch, from 0.
    """
    logits = at_least_float32(output.logits).flatten(0, -2)  # (n, V)
    return F.cross_entropy(logits, batch.labels, reduction="sum")


def projected_states(output: Any, batch: Batch, number: int) -> Tensor:
    """Return the normalised hidden states of layers 1 to L times random signs, summed.

    The signs are drawn on the CPU, so that they are the same on every device.

    Args:
        output: The model's output for the batch, with all hidden states.
        batch: The batch.
        number: Index of the batch, from 0, which seeds the signs.
    """
    generator = torch.Generator().manual_seed(number)
    total = torch.zeros((), device=batch.input_ids.device)
    for states in output.hidden_states[1:]:  # each (B, T, H)
        tokens = batch.at_tokens(states.flatten(0, 1))  # (m, H)
        directions = F.normalize(at_least_float32(tokens), dim=-1)
        drawn = torch.randint(0, 2, directions.shape, generator=generator, dtype=torch.int8)
        total = total + (directions * (2 * drawn - 1).to(directions.device)).sum()
    return total
