"""Knowledge distillation: 1 − cosine to the dense model's hidden states, averaged over the layers.

The objective of TAMT-KD (Liu et al., 2022, §3.3): the teacher is the dense model itself.

Relations: take it for an encoder without a masked-LM head, or where the hidden states count. It
stays close to the dense model, while `mlm` departs from it wherever that lowers its own loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.foundations.errors import ModelError
from tamtctl.pruning.objectives.outputs import Outputs, all_tokens, at_least_float32

blocks = all_tokens


def loss(outputs: Outputs, batch: Batch) -> Tensor:
    """Return each token's distance to the teacher's hidden states, mean over layers, (m,).

    Raises:
        ModelError: The model's layers have other positions than the batch.
    """
    for states in outputs.states:
        if states.shape[:2] != batch.input_ids.shape:
            raise ModelError(
                f"a layer of this model has states of the shape {list(states.shape)} for sequences "
                f"of {batch.input_ids.shape[1]} tokens, which no single token can be told by; use "
                "--objective mlm"
            )
    distances = [
        1 - F.cosine_similarity(at_least_float32(student), at_least_float32(teacher), dim=-1)
        for student, teacher in zip(outputs.states, outputs.teacher, strict=True)
    ]  # each (B, T)
    return batch.at_tokens(torch.stack(distances).mean(0).flatten())
